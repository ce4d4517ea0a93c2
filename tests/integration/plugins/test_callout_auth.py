"""plugins/rust/callout-auth: what the service is asked, and what becomes of the request by its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shared.proxy_wasm import Headers, HttpCall, Plugin, Refused, Response, Stream
from tests.support.examples import load

# Bytes that are no UTF-8.
NO_TEXT = "\udcff"
CONF: dict[str, object] = {
    "upstream": "auth",
    "path": "/check",
    "timeout_ms": 250,
    "send_headers": ["Authorization", "X-Absent"],
    "upstream_headers": ["X-User", "X-Role"],
    "client_headers": ["WWW-Authenticate"],
}


@pytest.fixture(scope="module")
def plugin() -> Iterator[Plugin]:
    with load("rust-callout-auth", CONF) as plugin:
        yield plugin


def ask(plugin: Plugin, **headers: str) -> tuple[Stream, HttpCall]:
    stream = plugin.request("POST", "/orders?id=7", headers={"authorization": "Bearer t", **headers}, body="order")
    call = plugin.http_calls[-1]
    assert call.pending
    assert not stream.was_forwarded
    assert not stream.has_response
    return stream, call


def test_the_service_learns_what_it_needs_and_no_more(plugin: Plugin) -> None:
    _, call = ask(plugin, cookie="secret=1")
    assert (call.upstream, call.method, call.path, call.authority, call.timeout_ms) == ("auth", "GET", "/check", "auth", 250)
    assert dict(call.headers) == {
        "x-original-method": "POST",
        "x-original-uri": "/orders?id=7",
        "x-original-host": "example.com",
        "authorization": "Bearer t",
    }
    assert call.body == b""
    call.fail()


@pytest.mark.parametrize("status", [200, 204, 299])
def test_an_agreed_request_goes_on_with_what_the_service_said(plugin: Plugin, status: int) -> None:
    stream, call = ask(plugin, **{"x-user": "root", "x-role": "admin"})
    call.respond(Response(status, Headers([("x-user", "caf\u00e9"), ("x-other", "no")])))
    assert stream.forwarded.body == b"order"
    assert stream.forwarded.headers.all("x-user") == ["caf\u00e9"]
    # A client cannot say what the service did not.
    assert "x-role" not in stream.forwarded.headers
    assert "x-other" not in stream.forwarded.headers
    assert stream.response.status == 200


@pytest.mark.parametrize("status", [302, 401, 403, 500])
def test_a_refusal_is_the_clients_answer(plugin: Plugin, status: int) -> None:
    stream, call = ask(plugin)
    call.respond(Response(status, Headers([("www-authenticate", "Basic"), ("set-cookie", "a=b")]), b"no\n"))
    assert not stream.was_forwarded
    assert (stream.response.status, stream.response.body) == (status, b"no\n")
    assert stream.response.headers["www-authenticate"] == "Basic"
    assert "set-cookie" not in stream.response.headers


def test_without_an_answer_the_request_ends(plugin: Plugin) -> None:
    stream, call = ask(plugin)
    call.fail()
    assert not stream.was_forwarded
    assert stream.response.status == 503
    assert json.loads(stream.response.body) == {"error_msg": "the request could not be authorised"}
    assert plugin.messages[-1] == "callout-auth: the service did not answer"


def test_without_an_answer_the_request_passes_where_that_is_configured(plugin: Plugin) -> None:
    lenient = plugin.sibling(json.dumps({**CONF, "pass_without_answer": True}))
    stream, call = ask(lenient)
    call.fail()
    assert stream.forwarded.body == b"order"
    stream, call = ask(lenient)
    call.respond(Response(403))
    assert stream.response.status == 403
    lenient.close()


def test_each_request_waits_for_its_own_answer(plugin: Plugin) -> None:
    asked = [ask(plugin) for _ in range(5)]
    for position, (_, call) in reversed(list(enumerate(asked))):
        call.respond(Response(200 if position % 2 else 403))
    assert [stream.response.status for stream, _ in asked] == [403, 200, 403, 200, 403]


def test_a_client_that_left_is_not_asked_for(plugin: Plugin) -> None:
    stream, call = ask(plugin)
    plugin.abandon(stream)
    if call.pending:
        call.respond(Response(200))
    assert not stream.was_forwarded
    assert plugin.failure is None


def test_bytes_that_are_no_text_do_not_disturb(plugin: Plugin) -> None:
    stream = plugin.request(headers=[("authorization", NO_TEXT), ("x-user", NO_TEXT)])
    call = plugin.http_calls[-1]
    assert "authorization" not in call.headers
    call.respond(Response(200, Headers([("x-user", NO_TEXT)])))
    assert stream.forwarded.headers["x-user"] == NO_TEXT
    stream = plugin.request()
    plugin.http_calls[-1].respond(Response(401, Headers([("www-authenticate", NO_TEXT)]), b"\xff"))
    assert stream.response.body == b"\xff"
    assert "www-authenticate" not in stream.response.headers


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({}, "one line of text is expected for upstream"),
        ({"upstream": "a", "path": "check"}, "a path that begins with / is expected for path"),
        ({"upstream": "a", "timeout_ms": 0}, "a number from 1 to 60000 is expected for timeout_ms"),
        ({"upstream": "a", "send_headers": "x"}, "a list of strings is expected for send_headers"),
        ({"upstream": "a", "send_headers": ["x:"]}, "not a header name: x:"),
        ({"upstream": "a", "hosts": []}, "unknown key hosts"),
    ],
)
def test_a_bad_configuration_is_refused(plugin: Plugin, conf: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        plugin.sibling(json.dumps(conf))
    assert refused.value.logs[-1].message == f"callout-auth: bad configuration: {reason}"
