"""Native and Wasm plugins in one chain, as transcripts: who sees what in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import ClassVar, Literal, cast

import pytest

from data_plane.config.brought import Brings, Epoch
from data_plane.config.merging import merge_binding
from data_plane.config.natives import Natives
from data_plane.config.snapshot import Binding, NativeBinding, PluginBinding, Route, Snapshot, Timeouts, WasmPlugin
from data_plane.exchange.messages import RequestFields, RequestHead, ResponseHead
from data_plane.plugins.arrangement import arrange
from data_plane.plugins.interface import Told
from shared.plugin import Consumer, Plugin, Reply, Request, Response, Spec
from shared.plugin.body import WholeBody
from shared.plugin.plugin import Answer, Phase
from shared.plugin.program import Bound
from shared.schema.common import MetaSpec
from shared.schema.plugins import NativeConf
from shared.schema.request_filter import RequestFilter
from tests.support.chain import GET, Case, Worker
from tests.support.exchange import Always
from tests.support.guest import Facts
from tests.support.native import Native, compiled

HEAD = "> GET /p HTTP/1.1|host: h"


class Nothing(Spec):
    pass


class Mark(Plugin[Nothing]):
    """Leaves its name in each head and body that it sees."""

    Config = Nothing
    name = "mark"
    priority = 0

    def __init__(
        self, label: str, *phases: Phase, reply: bool = False, waits: bool = False, fails: Phase | None = None
    ) -> None:
        super().__init__(Nothing())
        self.label, self._phases = label, frozenset(phases)
        self._reply, self._waits, self._fails = reply, waits, fails
        self.logged: list[int | None] = []

    def phases(self) -> frozenset[Phase]:
        return self._phases

    def _mark(self, phase: Phase, request: Request) -> Reply | None:
        if self._fails == phase:
            raise RuntimeError("broken")
        request.add_header(self.label, f"{phase} {request.header('a') or ''}")
        return Reply(403, "no", (("X-Why", self.label),)) if self._reply else None

    def rewrite(self, request: Request) -> Answer:
        return self._mark("rewrite", request)

    def access(self, request: Request) -> Answer:
        return self._later(request) if self._waits else self._mark("access", request)

    async def _later(self, request: Request) -> Reply | None:
        return self._mark("access", request)

    def header_filter(self, request: Request, response: Response) -> None:
        if self._fails == "header_filter":
            raise RuntimeError("broken")
        response.add_header(self.label, response.header("a") or "-")

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        return data + self.label.encode() if eos else data

    def log(self, request: Request, response: Response | None) -> None:
        self.logged.append(None if response is None else response.status)


class Exchange(Facts):
    """As much of an exchange as native plugins ask about."""

    head = RequestHead(b"GET", b"/p", GET, RequestFields(b"", 1, b"h", b"h", b""))
    route = Route("1", "one", None, (), Timeouts())
    duration_ns = None
    declared_length = -1


class MixedCase(Case):
    def __init__(self, worker: Worker, *bindings: Binding) -> None:
        self.journal = worker.journal
        self.replies = []
        self.has_left = self.is_cut = False
        self.facts = Exchange()
        self.chain = worker.runtime.open_chain(bindings, self, self.facts)


def native(plugin: Mark, priority: int = 0, owner: str = "route/1") -> NativeBinding:
    return NativeBinding(plugin, Bound.of(plugin), owner, priority)


def at(binding: PluginBinding, priority: int, passes: RequestFilter | None = None) -> PluginBinding:
    return PluginBinding(binding.plugin, binding.configuration, binding.owner, priority, passes)


def wasm(worker: Worker, priority: int, name: str = "a", passes: RequestFilter | None = None) -> PluginBinding:
    """Adds `a: 1` to both heads."""
    return at(worker.bind(name, "request_headers add 0 a 1", "response_headers add 2 a 1"), priority, passes)


def holds(case: Case) -> bool:
    return case.chain.holding


def heads(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("> ", "< ", "reply", "cut"))]


def test_each_sees_what_the_one_before_has_left(worker: Worker) -> None:
    first, last = Mark("x", "access", "header_filter", "log"), Mark("y", "access", "header_filter")
    case = MixedCase(worker, native(last, 1), wasm(worker, 2), native(first, 3))
    assert heads(case.request()) == [f"{HEAD}|x: access|a: 1|y: access 1"]
    assert heads(case.response()) == ["< HTTP/1.1 200 OK|server: up|x: -|a: 1|y: 1"]
    case.finish()
    assert first.logged == [200]


def place(name: str, phase: str, priority: int, owner: str = "route/1") -> PluginBinding:
    plugin = WasmPlugin(name, 0, "0" * 64, phase="rewrite" if phase == "rewrite" else "access")
    return PluginBinding(plugin, b"", owner, priority)


def test_the_order_of_all() -> None:
    """Phases first, then global rules, then priorities; Wasm plugins' places in a response are filled from the last."""
    marks = {label: Mark(label, "rewrite", "access", "header_filter") for label in "gno"}
    bindings: list[Binding] = [
        *(place("w1", "access", 9), place("w2", "rewrite", 1), place("w3", "access", 5, "global_rule/1")),
        *(native(marks["g"], 7, "global_rule/1"), native(marks["n"], 8), native(marks["o"], 2)),
    ]
    arrangement = arrange(bindings)

    def shown(item: object) -> str:
        if isinstance(item, PluginBinding):
            return item.plugin.name
        steps = [*item.request, *item.header_filter]  # type: ignore[attr-defined]
        return "+".join(f"{cast(Mark, step.__self__).label}.{step.__name__}" for step in steps)

    assert [shown(item) for item in arrangement.request] == [
        *("g.rewrite+n.rewrite+o.rewrite", "w2", "g.access", "w3", "w1", "n.access+o.access", ""),
    ]
    # Globals g, w3; then w1, n, o, w2 by priority; Wasm from the last that saw the request: w1, w3, w2.
    assert [shown(item) for item in arrangement.response] == [
        *("g.header_filter", "w1", "w3", "n.header_filter+o.header_filter", "w2"),
    ]


def test_a_native_reply_passes_every_response_phase(worker: Worker) -> None:
    case = MixedCase(worker, wasm(worker, 3), native(Mark("x", "access", "header_filter", reply=True), 2), wasm(worker, 1, "b"))
    assert heads(case.request()) == [
        "reply 403",
        # The plugin behind it has not seen the request: it does not see the reply either.
        "< HTTP/1.1 403 Reply|content-type: text/plain|server: waspgate|x-why: x|x: -|a: 1",
        "< 'no' eos",
    ]


def test_a_native_plugin_that_waits_holds_the_request(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[tuple[Awaitable[Reply | None], Told]] = []

    def wait(answer: Awaitable[Reply | None], told: Told) -> Callable[[], None]:
        waiting.append((answer, told))
        return lambda: None

    monkeypatch.setattr(worker.runtime, "wait", wait)
    mark = Mark("x", "access", waits=True)
    case = MixedCase(worker, native(mark, 3), wasm(worker, 2))
    assert heads(case.request(b"body")) == []
    assert holds(case)
    answer, told = waiting.pop()
    with pytest.raises(StopIteration):
        answer.__await__().__next__()
    told(None, None)
    assert heads(worker.take()) == [f"{HEAD}|x: access|a: 1", "> 'body' eos"]
    assert not holds(case)
    case = MixedCase(worker, native(mark, 3), wasm(worker, 2))
    case.request()
    answer, told = waiting.pop()
    cast(Coroutine[None, None, None], answer).close()
    told(None, RuntimeError("broken"))
    assert "reply 503 wasm_fail_stream" in worker.take()
    case.finish()


@pytest.mark.parametrize("phase", ["access", "header_filter"])
def test_a_native_plugin_that_raises_fails_its_request(worker: Worker, phase: Phase) -> None:
    case = MixedCase(worker, native(Mark("x", "access", "header_filter", fails=phase), 3), wasm(worker, 2))
    said = case.request()
    if phase == "header_filter":
        said = case.response()
    assert "reply 503 wasm_fail_stream" in said
    assert "native plugin failed: RuntimeError('broken')" in worker.journal.failures


def test_native_plugins_alone_may_have_a_chain(worker: Worker) -> None:
    """As a request that becomes a WebSocket has."""
    mark = Mark("x", "access", "header_filter", "log")
    case = MixedCase(worker, native(mark, 3), native(Mark("y", "rewrite"), 1))
    assert heads(case.request()) == [f"{HEAD}|y: rewrite|x: access"]
    assert heads(case.response()) == ["< HTTP/1.1 200 OK|server: up|x: -"]
    case.finish()
    assert mark.logged == [200]


def test_bodies_pass_native_filters(worker: Worker) -> None:
    case = MixedCase(worker, native(Mark("x", "body_filter"), 3), wasm(worker, 2), native(Mark("y", "body_filter"), 1))
    assert case.chain.reads_response_body
    case.request()
    assert [line for line in heads(case.response(b"1", b"2")) if "'" in line] == ["< '1'", "< '2xy' eos"]


def test_what_a_filter_keeps_goes_before_trailers(worker: Worker) -> None:
    case = MixedCase(worker, native(Mark("x", "body_filter"), 3), wasm(worker, 2))
    case.request()
    case.chain.response_head(b"HTTP/1.1 200 OK\r\n", b"", False)
    case.chain.response_body(b"1", False)
    case.chain.response_trailers(b"t: 1\r\n")
    assert [line for line in heads(worker.take()) if not line.startswith("< HTTP")] == ["< '1'", "< 'x'", "< trailers t: 1"]


def test_a_filter_keeps_a_wasm_plugin_from_a_request(worker: Worker) -> None:
    seen, unseen = RequestFilter([["uri", "==", "/p"]]), RequestFilter([["uri", "==", "/q"]])
    case = MixedCase(worker, wasm(worker, 2, "a", seen), wasm(worker, 1, "b", unseen))
    assert heads(case.request()) == [f"{HEAD}|a: 1"]
    assert worker.runtime.open_stream((wasm(worker, 1, "c", unseen),), Facts()) is None


def test_a_wasm_plugins_error_in_other_words(worker: Worker) -> None:
    bound = worker.bind("a", "request_headers reply 403 no")
    case = MixedCase(worker, PluginBinding(bound.plugin, bound.configuration, "route/1", 0, None, {"sorry": 1}))
    case.request()
    reply = case.replies[0]
    assert (reply.status, reply.body) == (403, b'{"sorry":1}\n')
    assert dict(reply.fields)[b"content-type"] == b"application/json"


def test_a_log_finds_the_response_as_it_has_left(worker: Worker) -> None:
    class Looks(Mark):
        def log(self, request: Request, response: Response | None) -> None:
            if response is not None and response.header("a") == "1":
                self.logged.append(response.status)

    told = Looks("x", "log")
    case = MixedCase(worker, wasm(worker, 2), native(told, 3))
    case.request()
    case.response()
    case.finish()
    assert told.logged == [200]


class Wants(Mark):
    """Wants so many bytes of a body at most, and says what it has read; keeps two bytes of what goes by."""

    def __init__(self, label: str, limit: int, reply: bool = False) -> None:
        super().__init__(label, "access", reply=reply)
        self._whole = WholeBody(limit, self._read)

    def access(self, request: Request) -> WholeBody:
        request.keep_body(2)
        self.seen = request
        return self._whole

    def _read(self, request: Request, body: bytes) -> Reply | None:
        request.add_header(self.label, body.decode())
        return self._mark("access", request) if self._reply else None


def test_a_body_is_held_for_the_plugin_that_wants_it_whole(worker: Worker) -> None:
    wants = Wants("x", 10)
    case = MixedCase(worker, wasm(worker, 3), native(wants, 2), native(Mark("y", "access"), 1))
    case.chain.request_head(GET, b"", False)
    case.chain.request_body(b"12", False)
    assert (heads(worker.take()), case.chain.request_backlog) == ([], 0)
    case.chain.request_body(b"3", True)
    assert heads(worker.take()) == [f"{HEAD}|a: 1|x: 123|y: access 1", "> '12'", "> '3' eos"]
    assert (case.chain.request_backlog, case.chain.holding, wants.seen.kept_body) == (0, False, b"12")


def test_without_a_body_nothing_is_held(worker: Worker) -> None:
    case = MixedCase(worker, wasm(worker, 3), native(Wants("x", 10), 2))
    assert heads(case.request()) == [f"{HEAD}|a: 1|x: "]


def test_trailers_end_a_body_that_is_wanted(worker: Worker) -> None:
    case = MixedCase(worker, wasm(worker, 3), native(Wants("x", 10), 2))
    case.chain.request_head(GET, b"", False)
    case.chain.request_body(b"12", False)
    case.chain.request_trailers(b"t: 1\r\n")
    assert heads(worker.take()) == [f"{HEAD}|a: 1|x: 12", "> '12'", "> trailers t: 1"]


@pytest.mark.parametrize(("limit", "status"), [(2, 413), (10, 403)])
def test_a_body_that_is_wanted_may_be_refused(worker: Worker, limit: int, status: int) -> None:
    case = MixedCase(worker, wasm(worker, 3), native(Wants("x", limit, reply=True), 2))
    case.chain.request_head(GET, b"", False)
    case.chain.request_body(b"12", False)
    case.chain.request_body(b"3", False)
    case.chain.request_body(b"", True)
    assert (case.replies[0].status, case.chain.request_backlog) == (status, 0)


def test_a_body_that_came_while_another_plugin_waited_is_wanted_too(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Told] = []

    def wait(answer: Coroutine[object, object, Reply | None], told: Told) -> Callable[[], None]:
        answer.close()
        waiting.append(told)
        return lambda: None

    monkeypatch.setattr(worker.runtime, "wait", wait)
    first = Mark("w", "access", waits=True)
    case = MixedCase(worker, wasm(worker, 4), native(first, 3), native(Wants("x", 10), 2))
    case.chain.request_head(GET, b"", False)
    case.chain.request_body(b"12", False)
    assert case.chain.request_backlog == 2
    worker.take()
    waiting[0](None, None)
    assert (worker.take(), case.chain.request_backlog) == (["> ''"], 0)
    case.chain.request_body(b"3", True)
    assert heads(worker.take()) == [f"{HEAD}|a: 1|x: 123", "> '12'", "> '3' eos"]
    assert case.chain.request_backlog == 0


class Signed(Mark):
    """Says that the request is a consumer's."""

    name = "signed"
    kind: ClassVar[Literal["", "auth"]] = "auth"
    consumer = Consumer("jack")

    def rewrite(self, request: Request) -> Answer:
        if self._waits:
            return self._later(request)
        request.attach_consumer(self.consumer)
        return None

    async def _later(self, request: Request) -> Reply | None:
        request.attach_consumer(self.consumer)
        return None


class Brought(Mark):
    """Named `mark` as all, so that it takes the place of the route's, unless it is called otherwise."""

    def __init__(self, config: Nothing, metadata: object = None) -> None:
        super().__init__("b", "rewrite", "access", "header_filter", "body_filter", "log")


class Fresh(Brought):
    name = "fresh"


def consumer(*plugins: type[Brought]) -> Consumer:
    confs = {plugin.name: NativeConf(plugin, Nothing(), MetaSpec()) for plugin in plugins}
    return Consumer("jack", brings=Brings("consumer/jack", confs, None, Natives(), Epoch()))


class MergingCase(MixedCase):
    """A route whose requests are a consumer's: this plugin, one in Wasm, and the route's own."""

    def __init__(self, worker: Worker, who: Consumer, *, waits: bool = False) -> None:
        self.own = Mark("x", "rewrite", "access", "header_filter", "log")
        signed = Signed("s", "rewrite", waits=waits)
        signed.consumer = who
        bindings: tuple[Binding, ...] = (native(signed, 3), wasm(worker, 2), native(self.own, 1))
        super().__init__(worker, *bindings, merge_binding("route/1", bindings, ()))


@pytest.mark.parametrize("waits", [False, True])
def test_a_consumers_plugins_come_into_a_chain_with_wasm(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    answers: list[tuple[Awaitable[Reply | None], Told]] = []

    def wait(answer: Awaitable[Reply | None], told: Told) -> Callable[[], None]:
        answers.append((answer, told))
        return lambda: None

    monkeypatch.setattr(worker.runtime, "wait", wait)
    case = MergingCase(worker, consumer(Fresh), waits=waits)
    lines = heads(case.request(b"one", b"two"))
    if waits:
        assert lines == []
        ((answer, told),) = answers
        with pytest.raises(StopIteration):
            answer.__await__().__next__()
        told(None, None)
        lines = heads(case.journal.take())
    who = "x-consumer-username: jack"
    assert lines == [f"{HEAD}|{who}|x: rewrite|b: rewrite|a: 1|x: access 1|b: access 1", "> 'one'", "> 'two' eos"]
    assert heads(case.response(b"body")) == ["< HTTP/1.1 200 OK|server: up|a: 1|x: 1|b: 1", "< 'bodyb' eos"]
    case.finish()
    assert case.own.logged == [200]


def test_a_consumers_plugin_takes_the_place_of_the_routes_in_a_chain_with_wasm(worker: Worker) -> None:
    case = MergingCase(worker, consumer(Brought))
    assert heads(case.request()) == [f"{HEAD}|x-consumer-username: jack|x: rewrite|a: 1|b: access 1"]
    assert heads(case.response()) == ["< HTTP/1.1 200 OK|server: up|a: 1|b: 1"]
    case.finish()
    assert case.own.logged == []


def test_a_consumer_without_plugins_changes_nothing_in_a_chain_with_wasm(worker: Worker) -> None:
    case = MergingCase(worker, Consumer("jack"))
    assert heads(case.request()) == [f"{HEAD}|x-consumer-username: jack|x: rewrite|a: 1|x: access 1"]


def mixed(worker: Worker, plugins: dict[str, dict[str, object]]) -> Native:
    """Real exchanges through the plugins of a route, one in Wasm among them."""
    route = compiled(plugins)
    through = Native.of(route)
    through.stage.runtime = worker.runtime  # type: ignore[assignment]  # a stage has one of its own
    chained = replace(route, bindings=(*route.bindings, wasm(worker, 2)), program=None)
    through.stage.snapshot = Snapshot(1, Always(chained), {})
    return through


@pytest.mark.parametrize("body", [b"", b"some"])
def test_a_head_in_the_place_of_another_method(worker: Worker, body: bytes) -> None:
    through = mixed(worker, {"proxy-rewrite": {"method": "HEAD"}})
    sent = through.request("/p", method="POST", body=body)
    assert sent is not None
    assert sent.line == "HEAD /p HTTP/1.1"
    assert through.exchange.head.method == b"HEAD"
    through.exchange.upstream_response(ResponseHead(200, b"HTTP/1.1 200 OK\r\n", 7, b"Content-Length: 7\r\n", True), b"", True)
    assert (through.answer.status, through.answer["content-length"], through.answer.body) == (200, "0", b"")
    assert through.exchange.head.method == b"POST"


def test_another_method_in_the_place_of_a_head(worker: Worker) -> None:
    through = mixed(worker, {"proxy-rewrite": {"method": "GET"}})
    sent = through.request("/p", method="HEAD")
    assert sent is not None
    assert sent.line == "GET /p HTTP/1.1"
    answer = through.response(b"body", b"more")
    assert (answer.status, answer.body) == (200, b"")


def test_what_the_gateway_says_of_a_changed_method_is_said_to_the_client(worker: Worker) -> None:
    through = mixed(worker, {"proxy-rewrite": {"method": "HEAD"}})
    assert through.request("/p") is not None
    through.exchange.upstream_lost("upstream_closed")
    through.exchange.upstream_failed("upstream_connect_failed")
    assert through.answer.status == 502
    assert b"error_msg" in through.answer.body


def test_a_body_in_chunks_is_bounded(worker: Worker) -> None:
    through = mixed(worker, {"client-control": {"max_body_size": 6}})
    assert through.request("/p", "Transfer-Encoding: chunked", method="POST", body=b"four", eos=False) is not None
    through.exchange.request_body(b"12", False)
    assert through.recorded.client == []
    through.exchange.request_body(b"3", False)
    assert through.answer.status == 413
