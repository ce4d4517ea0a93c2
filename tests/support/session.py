"""Recording ports around a TCP session, so that a test reads as its transcript.

The law: every command to a port is one line of `said`; nothing happens by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from data_plane.config.snapshot import Node, Picker, PluginBinding, StreamRoute, Timeouts, Upstream, WasmPlugin
from data_plane.observe.stream_counters import StreamCounters
from data_plane.tcp.ports import SessionSink, Side
from data_plane.tcp.session import Session
from shared.proxy_wasm.abi import Direction
from shared.proxy_wasm.properties import StreamFacts
from shared.proxy_wasm.tcp import Peer
from shared.proxy_wasm.tls_properties import TlsFacts

TIMEOUTS = Timeouts(connect=1, send=2, read=3)
BINDING = PluginBinding(WasmPlugin("test", 1, "0" * 64), b"", "stream_route/1", 1)


class Nodes(Picker):
    def __init__(self, *names: str) -> None:
        self._nodes = [Node(name, 80, 1, name.encode()) for name in names]
        self._turn = -1

    def pick(self) -> Node | None:
        self._turn += 1
        return self._nodes[self._turn % len(self._nodes)] if self._nodes else None


class Port:
    """A connection that says what it is commanded."""

    client_address = ("192.0.2.7", 50000)
    tls: TlsFacts | None = None
    local_address = ("10.0.0.1", 9100)
    connection_id = 3
    server_name = b"db.test"

    def __init__(self, stage: Stage, name: str) -> None:
        self._say = stage.say
        self._name = name

    def send(self, data: bytes) -> None:
        self._say(f"{self._name} < {data.decode() if len(data) < 50 else len(data)}")

    def send_eof(self) -> None:
        self._say(f"{self._name} < eof")

    def pause_reading(self) -> None:
        self._say(f"{self._name} pause")

    def resume_reading(self) -> None:
        self._say(f"{self._name} resume")

    def close(self) -> None:
        self._say(f"{self._name} close")

    def reset(self) -> None:
        self._say(f"{self._name} reset")


class Clock:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def set(self, seconds: float) -> None:
        self._stage.patience = seconds

    def clear(self) -> None:
        self._stage.patience = 0

    def close(self) -> None:
        self._stage.patience = -1


class Chain:
    """Lets go on what comes, unless it is told to hold it."""

    def __init__(self, stage: Stage, sink: SessionSink) -> None:
        self._stage = stage
        self.sink = sink
        self.holds = stage.holds
        self.full: set[Direction] = set()

    def new_connection(self) -> None:
        self._stage.say("chain: new connection")
        if "connection" not in self.holds:
            self.sink.proceed()

    def data(self, direction: Direction, data: bytes, eos: bool) -> None:
        self._stage.say(f"chain: {'up' if direction else 'down'} {data.decode()}{' eos' if eos else ''}")
        if "data" not in self.holds:
            self.sink.forward(direction, data, eos)

    def is_full(self, direction: Direction) -> bool:
        return direction in self.full

    def closed(self, side: Side, peer: Peer) -> None:
        self._stage.say(f"chain: {'upstream' if side else 'client'} closed by {peer.name.lower()}")

    def finish(self) -> None:
        self._stage.say("chain: finish")


class Attempt:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def cancel(self) -> None:
        self._stage.say("cancel")


class Stage:
    """A session's whole world, and its SessionServing."""

    def __init__(
        self,
        *nodes: str,
        plugins: bool = False,
        holds: tuple[str, ...] = (),
        configured: bool = True,
        picker: Picker | None = None,
        retries: int | None = None,
    ) -> None:
        self.said: list[str] = []
        self.patience = 0.0
        self.counters = StreamCounters()
        self.holds = holds
        self.chain: Chain
        self.over: list[Session] = []
        upstream = None
        if configured:
            picks = picker or Nodes(*nodes)
            upstream = Upstream("u", picks, "tcp", timeouts=TIMEOUTS, stream_idle=9, retries=retries)
        route = StreamRoute("1", "one", upstream, (BINDING,) if plugins else (), None if configured else "upstream_missing")
        self.session = Session(self, Port(self, "client"), route)

    def say(self, text: str) -> None:
        self.said.append(text)

    def take(self) -> list[str]:
        said, self.said = self.said, []
        return said

    def open_chain(self, bindings: tuple[PluginBinding, ...], sink: SessionSink, facts: StreamFacts) -> Chain:
        self.chain = Chain(self, sink)
        return self.chain

    def connect(self, node: Node, upstream: Upstream, session: Session) -> Attempt:
        self.say(f"connect {node.host}")
        return Attempt(self)

    def timer(self, expire: Callable[[], None]) -> Clock:
        return Clock(self)

    def unix_time_ns(self) -> int:
        return 1_000

    def session_over(self, session: Session) -> None:
        self.over.append(session)

    # --- what a test tells

    def start(self, data: bytes = b"") -> list[str]:
        self.session.start(data)
        return self.take()

    def open(self) -> Stage:
        """To the point where both sides are connected."""
        self.start()
        self.connected()
        return self

    def connected(self, name: str = "upstream") -> list[str]:
        self.session.connected(Port(self, name))
        return self.take()

    def data(self, side: Side, data: bytes) -> list[str]:
        self.session.data(side, data)
        return self.take()

    def eof(self, side: Side) -> list[str]:
        self.session.eof(side)
        return self.take()

    def tell(self, event: Callable[..., None], *arguments: object) -> list[str]:
        event(*arguments)
        return self.take()
