"""Recording ports around an exchange, so that a test reads as its transcript.

The law: every call on a port is one line of `said`; nothing happens by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from data_plane.config.snapshot import Binding, Node, Picker, PluginBinding, Route, Snapshot, Timeouts, Upstream, WasmPlugin
from data_plane.exchange.exchange import Exchange
from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE, RequestFields, RequestHead, ResponseHead
from data_plane.exchange.opening import open_exchange
from data_plane.exchange.ports import ClientPort
from data_plane.exchange.requester import Requester
from data_plane.observe.counters import Counters
from data_plane.plugins.interface import ChainSink, LocalReply, PluginChain, PluginStream, StreamInfo, Told
from shared.plugin import Reply
from shared.plugin.program import Program
from shared.proxy_wasm.tls_properties import TlsFacts

TIMEOUTS = Timeouts(connect=1, send=2, read=3)
PLUGIN = WasmPlugin("test", 1, "0" * 64)
BINDING = PluginBinding(PLUGIN, b"", "route/1", 1)


class Nodes(Picker):
    def __init__(self, *names: str) -> None:
        self._nodes = [Node(name, 80, 1, name.encode()) for name in names]
        self._turn = -1

    def pick(self) -> Node | None:
        self._turn += 1
        return self._nodes[self._turn % len(self._nodes)] if self._nodes else None


class Conn:
    """An upstream connection."""

    heard = False

    def __init__(self, stage: Stage, name: str, reused: bool) -> None:
        self._stage = stage
        self._name = name
        self.reused = reused

    def begin(self, exchange: Requester, data: bytes, read_timeout: float) -> None:
        self._stage.serving = exchange
        self._stage.say(f"{self._name}.begin", data, f"timeout {read_timeout:g}" if read_timeout else "")

    def send(self, data: bytes) -> None:
        self._stage.say(f"{self._name}.send", data)

    def await_response(self, read_timeout: float) -> None:
        self._stage.say(f"{self._name}.await", b"", f"timeout {read_timeout:g}")

    def pause_reading(self) -> None:
        self._stage.say(f"{self._name}.pause")

    def resume_reading(self) -> None:
        self._stage.say(f"{self._name}.resume")

    def release(self) -> None:
        self._stage.say(f"{self._name}.release")

    def close(self) -> None:
        self._stage.say(f"{self._name}.close")


class Pool:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.idle: list[Conn] = []
        # Whoever wants a connection.
        self.asking: Requester | None = None

    def take(self, node: Node, checked: bool) -> Conn | None:
        return self.idle.pop(0) if self.idle else None

    def connect(self, node: Node, upstream: Upstream, timeouts: Timeouts, exchange: Requester) -> None:
        self.asking = exchange
        self._stage.say(f"connect {node.host}")


class Client:
    client_address = ("10.0.0.1", 1234)
    tls: TlsFacts | None = None
    local_address = ("10.0.0.2", 80)
    connection_id = 7

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def send(self, data: bytes) -> None:
        self._stage.say("client.send", data)

    def finish(self, data: bytes, keep_alive: bool) -> None:
        self._stage.say("client.finish", data, "keep" if keep_alive else "close")

    def cut(self, hard: bool) -> None:
        self._stage.say("client.cut", b"", "hard" if hard else "")

    def pause_body(self) -> None:
        self._stage.say("client.pause")

    def resume_body(self) -> None:
        self._stage.say("client.resume")

    def unix_time_ns(self) -> int:
        return 1_000


class Always:
    def __init__(self, route: Route | None) -> None:
        self._route = route

    def match(self, method: bytes, host: bytes, path: bytes) -> Route | None:
        return self._route


class Chain:
    """A chain that records what it is told, and forwards it at once unless it is told to hold."""

    def __init__(self, stage: Stage, sink: ChainSink, info: StreamInfo) -> None:
        self._stage = stage
        self.sink = sink
        self.info = info
        self.reads_request_body = stage.reads_request_body
        self.reads_response_body = stage.reads_response_body
        self.reads_trailers = False
        self.request_backlog = 0
        self.response_backlog = 0
        self.holds = stage.holds
        self.replies = dict(stage.replies)

    @property
    def holding(self) -> bool:
        return bool(self.holds)

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> None:
        self._told("request head", b"", eos)
        if not self._replied("request head") and "request" not in self.holds:
            self.sink.forward_request_head(head)

    def request_body(self, data: bytes, eos: bool) -> None:
        self._told("request body", data, eos)
        if not self._replied("request body") and "request" not in self.holds:
            self.sink.forward_request_body(data, eos)

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> None:
        self._told(f"response head {int(head[9:12])}", b"", eos)
        if not self._replied("response head") and "response" not in self.holds:
            self.sink.forward_response_head(head)

    def response_body(self, data: bytes, eos: bool) -> None:
        self._told("response body", data, eos)
        if not self._replied("response body") and "response" not in self.holds:
            self.sink.forward_response_body(data, eos)

    def request_trailers(self, lines: bytes) -> None:
        self._told("request trailers", lines, False)
        self.sink.forward_request_trailers(lines)

    def response_trailers(self, lines: bytes) -> None:
        self._told("response trailers", lines, False)
        self.sink.forward_response_trailers(lines)

    def finish(self) -> None:
        self._stage.say("chain.finish")

    def _told(self, what: str, data: bytes, eos: bool) -> None:
        self._stage.say(f"chain: {what}", data, "eos" if eos else "")

    def _replied(self, when: str) -> bool:
        """A plugin answers once."""
        reply = self.replies.pop(when, None)
        if reply is not None:
            self.sink.local_reply(reply)
        return reply is not None


class Stream:
    """One plugin's stream without a chain: it says what it is told and answers what the stage was given, in order (nothing:
    unchanged; None: only a chain can go on)."""

    def __init__(self, stage: Stage, answers: list[bytes | None]) -> None:
        self._stage = stage
        self._answers = answers

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        return self._answer("request head", eos)

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        return self._answer(f"response head {int(head[9:12])}", eos)

    def last_response(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        return self._answer(f"last response {int(head[9:12])}", eos)

    def _answer(self, what: str, eos: bool) -> bytes | None:
        self._stage.say(f"stream: {what}", b"", "eos" if eos else "")
        return self._answers.pop(0) if self._answers else b""


class Stage:
    """An exchange's whole world, and its `Serving`."""

    def __init__(
        self,
        *nodes: str,
        idle: tuple[str, ...] = (),
        plugins: bool = False,
        reads_request_body: bool = False,
        reads_response_body: bool = False,
        holds: tuple[str, ...] = (),
        replies: dict[str, LocalReply] | None = None,
        problem: str | None = None,
        matches: bool = True,
        global_plugins: bool = False,
        program: Program | None = None,
        answers: list[bytes | None] | None = None,
        served: Upstream | None = None,
    ) -> None:
        self.said: list[str] = []
        self.waiting: list[tuple[Awaitable[Reply | None], Told]] = []
        self.draining = False
        self.counters = Counters()
        self.pool = Pool(self)
        self.pool.idle = [Conn(self, name, reused=True) for name in idle]
        self.client = Client(self)
        self.runtime = self
        self.reads_request_body = reads_request_body
        self.reads_response_body = reads_response_body
        self.holds = set(holds)
        self.replies = replies or {}
        self.answers = answers
        upstream = None if problem else served or Upstream("u", Nodes(*(nodes or ("a",))), timeouts=TIMEOUTS)
        route = Route(
            "1", "one", upstream, (BINDING,) if plugins or program else (), TIMEOUTS, problem=problem, program=program
        )
        self.snapshot = Snapshot(1, Always(route if matches else None), {}, (BINDING,) if global_plugins else ())
        self.chain: Chain
        self.exchange: Exchange
        # Whom a connection serves: the exchange, or who stands between.
        self.serving: Requester

    def say(self, what: str, data: bytes = b"", note: str = "") -> None:
        text = data.decode().replace("\r\n", "|") if len(data) < 200 else f"{len(data)} bytes"
        self.said.append(" ".join(part for part in (what, text, note) if part))

    def take(self) -> list[str]:
        """What was said since the last time."""
        said, self.said = self.said, []
        return said

    def open_chain(self, bindings: tuple[Binding, ...], sink: ChainSink, info: StreamInfo) -> PluginChain:
        self.chain = Chain(self, sink, info)
        return self.chain

    def open_stream(self, bindings: tuple[Binding, ...], info: StreamInfo) -> PluginStream | None:
        """None, so that there is a chain, unless `answers` were given."""
        return None if self.answers is None else Stream(self, self.answers)

    def find_route(self, head: bytes, client: ClientPort) -> Route | None:
        self.say("find_route")
        return self.snapshot.router.match(b"", b"", b"")

    def take_over(self, stream: PluginStream, sink: ChainSink) -> PluginChain:
        self.say("take over")
        self.chain = Chain(self, sink, self.exchange)  # type: ignore[arg-type]  # a HeadExchange
        return self.chain

    def finish(self, stream: PluginStream) -> None:
        self.say("stream.finish")

    def wait(self, answer: Awaitable[Reply | None], told: Told) -> Callable[[], None]:
        self.say("wait")
        self.waiting.append((answer, told))
        return lambda: self.say("no longer waits")

    def native_failed(self, plugin: str, error: BaseException) -> None:
        self.say(f"{plugin} failed: {error}")

    def request(
        self,
        method: bytes = b"GET",
        body: bytes = b"",
        *,
        length: int = 0,
        eos: bool | None = None,
        minor: int = 1,
        keep_alive: bool = True,
        expects: bool = False,
    ) -> list[str]:
        """The request arrives; `length` as declared, `body` is what of it came with the head."""
        fields = RequestFields(b"\r\n", minor, b"t", b"t", b"\r\nHost: t\r\n")
        fields.keep_alive = keep_alive
        fields.length = length
        fields.expects_continue = expects
        head = RequestHead(method, b"/p", b"%b /p HTTP/1.1\r\nHost: t\r\n" % method, fields)
        if length:
            fields.framing = b"Content-Length: %d\r\n" % length if length > 0 else b"Transfer-Encoding: chunked\r\n"
        self.exchange = open_exchange(self, self.client, head)
        self.exchange.start(body, length == len(body) if eos is None else eos)
        return self.take()

    def through(self, status: int) -> None:
        """A whole response, told by the connection."""
        head = ResponseHead(status, b"HTTP/1.1 %d X\r\n" % status, 0, b"Content-Length: 0\r\n", True)
        self.serving.upstream_response(head, b"", True)

    def lose(self, kind: str) -> None:
        """The connection breaks."""
        self.serving.upstream_lost(kind)

    def connected(self, name: str = "a") -> list[str]:
        self.exchange.upstream_ready(Conn(self, name, reused=False))
        return self.take()

    def response(self, body: bytes = b"", *, length: int = 0, eos: bool | None = None, status: int = 200) -> list[str]:
        framing = {CHUNKED: b"Transfer-Encoding: chunked\r\n", UNTIL_CLOSE: b""}.get(length, b"Content-Length: %d\r\n" % length)
        head = ResponseHead(status, b"HTTP/1.1 %d X\r\n" % status, length, framing, True)
        self.exchange.upstream_response(head, body, length == len(body) if eos is None else eos)
        return self.take()
