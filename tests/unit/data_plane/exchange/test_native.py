"""The transcripts of requests whose plugins are all native: phases, pauses, failures and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from data_plane.exchange.messages import CHUNKED
from data_plane.exchange.native import NativeExchange
from data_plane.exchange.sending import DONE, STARTING
from shared.plugin import Plugin, Reply, Request, Response, Spec
from shared.plugin.plugin import AnyPlugin, Phase
from shared.plugin.program import Bound, ErrorResponse, compile_program
from shared.schema.request_filter import RequestFilter
from tests.support.exchange import Stage

GET = "a.begin GET /p HTTP/1.1|Host: t|| timeout 3"


class Nothing(Spec):
    pass


class Voice:
    """Where plugins say something: between what the ports of a stage say."""

    def __init__(self) -> None:
        self.stage: Stage

    def append(self, text: str) -> None:
        self.stage.said.append(text)


class Said(Plugin[Nothing]):
    """Says its phases, and does what it is told in them."""

    Config = Nothing
    name = "said"
    priority = 1

    def __init__(self, stage: Voice, name: str, *phases: Phase, reply: Phase | None = None, fails: Phase | None = None) -> None:
        super().__init__(Nothing())
        self._voice, self._name, self._phases = stage, name, frozenset(phases)
        self._reply, self._fails = reply, fails

    def phases(self) -> frozenset[Phase]:
        return self._phases

    def _say(self, phase: Phase, text: str = "") -> Reply | None:
        self._voice.append(f"{self._name} {phase} {text}".rstrip())
        if phase == self._fails:
            raise RuntimeError("broken")
        return Reply(403, "no") if phase == self._reply else None

    def rewrite(self, request: Request) -> Reply | None:
        return self._say("rewrite")

    def access(self, request: Request) -> Reply | None:
        return self._say("access")

    def before_proxy(self, request: Request) -> Reply | None:
        return self._say("before_proxy")

    def header_filter(self, request: Request, response: Response) -> None:
        self._say("header_filter", str(response.status))
        response.set_header("X-By", self._name)

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        self._say("body_filter", f"{data.decode()}{' eos' if eos else ''}")
        return data.upper()

    def log(self, request: Request, response: Response | None) -> None:
        self._say("log", "-" if response is None else str(response.status))


class Waits(Said):
    def access(self, request: Request) -> Awaitable[Reply | None]:  # type: ignore[override]  # one that must wait
        return self._later()

    async def _later(self) -> Reply | None:
        return self._say("access", "at last")


class Scene:
    def __init__(self, *plugins: AnyPlugin, said: Voice, **options: object) -> None:
        program = compile_program([Bound.of(plugin) for plugin in plugins])
        self.stage = Stage(idle=("a",), program=program, **options)  # type: ignore[arg-type]
        said.stage = self.stage

    def come(self) -> list[str]:
        """What is waited for."""
        answer, told = self.stage.waiting.pop()

        async def awaited() -> None:
            try:
                reply = await answer
            except Exception as error:
                told(None, error)
            else:
                told(reply, None)

        asyncio.run(awaited())
        return self.stage.take()


ALL: tuple[Phase, ...] = ("rewrite", "access", "before_proxy", "header_filter", "log")


def test_phases_in_order_through_all_plugins() -> None:
    said = Voice()
    scene = Scene(Said(said, "one", *ALL), Said(said, "two", *ALL), said=said).stage
    assert scene.request() == [*(f"{name} {phase}" for phase in ALL[:3] for name in ("one", "two")), GET]
    assert scene.response(b"hi", length=2) == [
        "a.release",
        "one header_filter 200",
        "two header_filter 200",
        "client.finish HTTP/1.1 200 X|X-By: two|Content-Length: 2||hi keep",
        "one log 200",
        "two log 200",
    ]


def test_a_reply_ends_the_way_to_the_upstream_and_is_a_response() -> None:
    said = Voice()
    scene = Scene(Said(said, "one", *ALL, reply="rewrite"), Said(said, "two", *ALL), said=said).stage
    got = scene.request()
    assert got[0] == "one rewrite"
    assert got[1:3] == ["one header_filter 403", "two header_filter 403"]
    assert got[3].startswith("client.finish HTTP/1.1 403 Forbidden|Server: waspgate|X-By: two|Content-Length: 2||no")
    assert got[4:] == ["one log 403", "two log 403"]
    assert scene.exchange.state == DONE


def test_a_plugin_that_looks_at_requests_only_costs_responses_nothing() -> None:
    said = Voice()
    scene = Scene(Said(said, "one", "access"), said=said).stage
    assert scene.request() == ["one access", GET]
    assert type(scene.exchange) is NativeExchange
    assert scene.response(b"hi", length=2) == ["a.release", "client.finish HTTP/1.1 200 X|Content-Length: 2||hi keep"]


def test_body_filters_see_each_piece_and_the_length_goes() -> None:
    said = Voice()
    scene = Scene(Said(said, "one", "body_filter"), said=said).stage
    scene.request()
    assert scene.response(b"ab", length=4, eos=False) == [
        "one body_filter ab",
        "client.send HTTP/1.1 200 X|Transfer-Encoding: chunked||2|AB|",
    ]
    scene.exchange.upstream_body(b"cd", True)
    assert scene.take() == ["a.release", "one body_filter cd eos", "client.finish 2|CD|0|| keep"]


def test_a_whole_body_has_its_new_length() -> None:
    said = Voice()
    scene = Scene(Said(said, "one", "body_filter"), said=said).stage
    scene.request()
    assert scene.response(b"ab", length=CHUNKED, eos=True)[-1] == "client.finish HTTP/1.1 200 X|Content-Length: 2||AB keep"


def test_the_gateways_own_replies_pass_the_filters() -> None:
    said = Voice()
    scene = Scene(Said(said, "one", "header_filter", "log"), said=said).stage
    scene.request()
    scene.exchange.upstream_lost("upstream_read_timeout")
    got = scene.take()
    assert got[0] == "one header_filter 504"
    assert "X-By: one" in got[1]
    assert got[2:] == ["one log 504"]


def test_a_plugin_that_waits_holds_the_request_and_its_body() -> None:
    said = Voice()
    scene = Scene(Waits(said, "one", "access"), Said(said, "two", "access"), said=said)
    assert scene.stage.request(b"POST", b"ab", length=4) == ["wait"]
    exchange = scene.stage.exchange
    assert exchange.state == STARTING
    assert exchange.held() is not None
    exchange.request_body(b"cd", True)
    assert scene.come() == [
        "one access at last",
        "two access",
        "a.begin POST /p HTTP/1.1|Host: t|Content-Length: 4||abcd timeout 3",
    ]
    assert exchange.held() is None


def test_what_is_waited_for_may_be_a_reply_or_a_failure() -> None:
    said = Voice()
    scene = Scene(Waits(said, "one", "access", reply="access"), said=said)
    scene.stage.request()
    assert "403 Forbidden" in scene.come()[-1]
    scene = Scene(Waits(said, "one", "access", fails="access"), said=said)
    scene.stage.request()
    got = scene.come()
    assert got[1] == "said failed: broken"
    assert "503 Service Unavailable|" in got[2]


def test_a_client_that_leaves_ends_the_waiting() -> None:
    said = Voice()
    scene = Scene(Waits(said, "one", "access", "log"), said=said)
    scene.stage.request()
    scene.stage.exchange.client_gone()
    assert scene.stage.take() == ["no longer waits", "one log -"]
    # It comes all the same: nothing follows.
    assert scene.come() == ["one access at last"]


@pytest.mark.parametrize("phase", ["rewrite", "access", "before_proxy", "header_filter"])
def test_a_plugin_that_raises_fails_the_request_and_leaks_nothing(phase: Phase) -> None:
    said = Voice()
    scene = Scene(Said(said, "one", phase, "log", fails=phase), said=said).stage
    got = scene.request()
    if phase == "header_filter":
        got = scene.response(b"hi", length=2)
    finish = next(line for line in got if line.startswith("client.finish"))
    assert "503 Service Unavailable" in finish
    assert "broken" not in finish
    assert "said failed: broken" in got
    assert got[-1] == "one log 503" if phase != "header_filter" else got[-1].startswith("one log")


def test_a_body_filter_that_raises_cuts_what_has_begun() -> None:
    said = Voice()
    plugin = Said(said, "one", "body_filter")
    scene = Scene(plugin, said=said).stage
    scene.request()
    scene.response(b"ab", length=4, eos=False)
    plugin._fails = "body_filter"
    scene.exchange.upstream_body(b"cd", True)
    assert scene.take()[-2:] == ["said failed: broken", "client.cut"]


def test_a_log_that_raises_stops_no_other() -> None:
    said = Voice()
    scene = Scene(Said(said, "one", "log", fails="log"), Said(said, "two", "log"), said=said).stage
    scene.request()
    assert scene.response(b"hi", length=2)[-3:] == ["one log 200", "said failed: broken", "two log 200"]


def test_a_plugin_that_changes_the_method_says_so() -> None:
    class Turns(Said):
        def rewrite(self, request: Request) -> Reply | None:
            request.set_method("HEAD")
            return None

    said = Voice()
    turns = Turns(said, "one", "rewrite")
    got = Scene(turns, said=said).stage.request()
    assert got[0].startswith("said failed: a plugin that changes the method must say so")
    assert "503 Service Unavailable" in got[1]
    turns.changes_method = True
    scene = Scene(turns, said=said).stage
    assert scene.request() == ["a.begin HEAD /p HTTP/1.1|Host: t|| timeout 3"]
    assert scene.response(length=5, eos=True)[-1] == "client.finish HTTP/1.1 200 X|Content-Length: 0|| keep"


def test_a_gate_lets_the_plugin_see_some_requests_only() -> None:
    said = Voice()
    plugin = Said(said, "one", *ALL, reply="access")
    for source, runs in (([["uri", "==", "/p"]], True), ([["uri", "==", "/q"]], False)):
        gated = Bound.of(plugin, RequestFilter(source))
        scene = Stage(idle=("a",), program=compile_program([gated]))
        said.stage = scene
        assert ("one access" in scene.request()) is runs


def test_errors_in_other_words() -> None:
    said = Voice()
    bodies: list[tuple[ErrorResponse, str]] = [
        ({"m": 1}, 'Content-Type: application/json|Content-Length: 8||{"m":1}\n'),
        ("sorry", "Content-Type: text/plain; charset=utf-8|Content-Length: 5||sorry"),
    ]
    for body, shown in bodies:
        for plugin in (Said(said, "one", "access", reply="access"), Waits(said, "one", "access", reply="access")):
            scene = Scene(said=said)
            said.stage = scene.stage = Stage(idle=("a",), program=compile_program([Bound.of(plugin, None, body)]))
            got = scene.stage.request()
            assert shown in (scene.come() if scene.stage.waiting else got)[-1]
