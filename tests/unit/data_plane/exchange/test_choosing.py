"""Transcripts of requests whose route hangs on more than method, host and path."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_plane.config.snapshot import BY_REQUIREMENT, Route
from data_plane.exchange.choosing import ROUTED_BODY_BYTES
from shared.expression.language import compile_expression
from shared.expression.request import RequestVariables
from shared.plugin.program import Program
from tests.support.exchange import Always, Stage


def stage(rules: object, **more: object) -> Stage:
    """The one route asks for `rules`."""
    found = Stage(idle=("c",), **more)  # type: ignore[arg-type]  # as the test says
    route = found.snapshot.router.match(b"", b"", b"")
    expression = compile_expression(rules, routed=False)

    def choose(request: RequestVariables) -> Route | None:
        return route if expression.matches(request) else None

    found.snapshot = replace(found.snapshot, router=Always(BY_REQUIREMENT), choose=choose)
    return found


NOT_FOUND = "client.finish HTTP/1.1 404 Not Found"


def test_what_the_head_decides_is_decided_at_once() -> None:
    assert stage([["http_host", "t"]]).request() == ["c.begin GET /p HTTP/1.1|Host: t|| timeout 3"]
    (said,) = stage([["http_host", "other"]]).request()
    assert said.startswith(NOT_FOUND)


def test_a_body_that_decides_nothing_is_not_held() -> None:
    begun = stage([["http_host", "t"]]).request(b"POST", b"ab", length=4)
    assert begun == ["c.begin POST /p HTTP/1.1|Host: t|Content-Length: 4||ab"]


def test_a_body_that_decides_is_held_in_full() -> None:
    # The body of a form; `type` stands for the Content-Type that the stage's head lacks.
    tried = stage([["post_arg_a", "!", "==", "x"]])
    assert tried.request(b"POST", b"a", length=4, expects=True) == []
    tried.exchange.request_body(b"=y", False)
    assert tried.take() == []
    assert tried.exchange.held() is None
    tried.exchange.request_body(b"z", True)
    assert tried.take() == ["c.begin POST /p HTTP/1.1|Host: t|Content-Length: 4||a=yz timeout 3"]


def test_whoever_waits_to_send_the_body_is_told_to() -> None:
    tried = stage([["post_arg_a", None]])
    assert tried.request(b"POST", length=2, expects=True) == ["client.send HTTP/1.1 100 Continue||"]
    tried.exchange.request_body(b"ab", True)
    assert tried.take() == ["c.begin POST /p HTTP/1.1|Host: t|Content-Length: 2||ab timeout 3"]


@pytest.mark.parametrize("body", [b"", b"abc"])
def test_a_body_in_chunks_goes_on_in_chunks(body: bytes) -> None:
    tried = stage([["post_arg_a", None]])
    assert tried.request(b"POST", body, length=-1, eos=False) == []
    tried.exchange.request_trailers(b"X: y\r\n")
    sent = "".join(tried.take())
    assert "Transfer-Encoding: chunked" in sent
    assert sent.count("0||") == 1
    assert body.decode() in sent


def test_no_route_after_all() -> None:
    tried = stage([["post_arg_a", "x"]])
    tried.request(b"POST", b"a", length=2)
    tried.exchange.request_body(b"b", True)
    assert tried.take()[0].startswith(NOT_FOUND)


def test_a_body_too_large_to_decide_is_refused() -> None:
    tried = stage([["post_arg_a", None]])
    size = ROUTED_BODY_BYTES + 1
    tried.request(b"POST", b"a", length=size)
    tried.exchange.request_body(b"b" * (size - 2), False)
    assert tried.take() == []
    tried.exchange.request_body(b"c", True)
    (said,) = tried.take()
    assert said.startswith("client.finish HTTP/1.1 413")


def test_a_client_that_leaves_while_the_body_is_held() -> None:
    tried = stage([["post_arg_a", None]])
    tried.request(b"POST", b"a", length=2)
    tried.exchange.client_gone()
    assert (tried.take(), tried.counters.client_aborts) == ([], 1)


def test_a_client_that_stalls_while_the_body_is_held() -> None:
    tried = stage([["post_arg_a", None]])
    tried.request(b"POST", b"a", length=2)
    tried.exchange.client_failed("request_timeout")
    assert tried.take()[0].startswith("client.finish HTTP/1.1 408")


def test_what_comes_later_goes_to_whoever_serves_the_request() -> None:
    tried = stage([["post_arg_a", None]])
    tried.request(b"POST", b"a", length=2)
    tried.exchange.request_body(b"b", True)
    tried.take()
    tried.exchange.client_blocked()
    assert tried.take() == ["c.pause"]
    tried.exchange.client_writable()
    assert tried.take() == ["c.resume"]
    tried.exchange.client_gone()
    assert tried.take() == ["c.close"]


@pytest.mark.parametrize("more", [{"plugins": True}, {"program": Program()}], ids=str)
def test_plugins_of_a_chosen_route_run(more: dict[str, object]) -> None:
    tried = stage([["http_host", "t"]], **more)
    assert any("c.begin" in said or "chain" in said for said in tried.request())
