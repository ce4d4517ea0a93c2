"""TCP: the callbacks of a connection, its two directions, and what a plugin makes of their bytes."""

from __future__ import annotations

from collections.abc import Callable

from shared.proxy_wasm.abi import Direction, Effect
from shared.proxy_wasm.tcp import Peer, TcpContext
from tests.conformance.stage import DEFINES, Stage
from tests.conformance.table import TABLE
from tests.support.guest import Facts, Guest, console

case = TABLE.case
NEW = "proxy_on_new_connection"
CONTINUE, CLOSE = "proxy_continue_stream", "proxy_close_stream"
SIDES = (("downstream", Direction.REQUEST, 2), ("upstream", Direction.RESPONSE, 3))


class Connection:
    def __init__(self, stage: Stage, *script: str) -> None:
        self.guest = Guest(stage.engine, console(*DEFINES[stage.version]))
        self.root = self.guest.root(*script)
        self.context = TcpContext(self.root, Facts())
        self.opened = self.context.new_connection()
        self.begun = self.guest.take()

    def send(self, direction: Direction, piece: bytes, eos: bool = False) -> bytes | None:
        """What goes on of it, or None when it is held."""
        outcome = self.context.data(direction, piece, eos)
        if outcome is None:
            return piece
        return None if outcome.paused else piece if outcome.data is None else outcome.data


def row(subject: str, behaviour: str, *script: str) -> Callable[[Callable[[Stage, Connection], None]], None]:
    def add(look: Callable[[Stage, Connection], None]) -> None:
        @case(subject, behaviour)
        def _(stage: Stage) -> None:
            connection = Connection(stage, *script)
            try:
                look(stage, connection)
            finally:
                connection.guest.vm.close()

    return add


@row(NEW, "first of a connection, in a context of its own")
def _(stage: Stage, connection: Connection) -> None:
    stage.expect(connection.begun, ["context_create 2 1", "new_connection 2"])


@row(
    NEW,
    "Pause keeps the connection waiting until continue_stream",
    "new_connection return 1",
    "tick effective 2",
    "tick continue 2",
)
def _(stage: Stage, connection: Connection) -> None:
    assert connection.opened is not None
    stage.expect(connection.opened.paused, True)
    connection.root.tick()
    ((context, outcome),) = connection.guest.recorder.told
    stage.expect((context, bool(outcome.effects & Effect.CONTINUE_REQUEST)), (2, True))


for name, direction, buffer in SIDES:
    data, close = f"proxy_on_{name}_data", f"proxy_on_{name}_connection_close"

    @row(data, "each piece with its size and whether it is the last")
    def _(stage: Stage, connection: Connection, name: str = name, direction: Direction = direction) -> None:
        connection.send(direction, b"hello")
        connection.send(direction, b"", True)
        stage.expect(connection.guest.take(), [f"{name}_data 2 5 0", f"{name}_data 2 0 1"])

    @row(
        data,
        f"its bytes are buffer {buffer}, to read and to change",
        *(
            f"{name}_data {command}"
            for command in (f"buffer {buffer} 0 99", f"set_buffer {buffer} 0 5 write", f"buffer {5 - buffer} 0 99")
        ),
    )
    def _(stage: Stage, connection: Connection, name: str = name, direction: Direction = direction) -> None:
        stage.expect(connection.send(direction, b"hello world"), b"write world")
        stage.expect(connection.guest.take()[1:], ["buffer: OK hello world", "set_buffer: OK", "buffer: NOT_FOUND"])

    @row(data, "Pause holds the bytes: the size grows, and Continue lets all of them go", f"{name}_data#1 return 1")
    def _(stage: Stage, connection: Connection, name: str = name, direction: Direction = direction) -> None:
        pieces = [connection.send(direction, piece) for piece in (b"hello ", b"world", b"!")]
        stage.expect(pieces, [None, b"hello world", b"!"])
        stage.expect(connection.guest.take(), [f"{name}_data 2 6 0", f"{name}_data 2 11 0", f"{name}_data 2 1 0"])

    @row(data, "a local response means nothing here: Ok and ignored", f"{name}_data reply 403 % no %")
    def _(stage: Stage, connection: Connection, direction: Direction = direction) -> None:
        stage.expect(connection.send(direction, b"hello"), b"hello")
        stage.expect(connection.guest.take()[1:], ["reply: OK"])

    @row(close, "says who closed: this side 1, the peer 2")
    def _(stage: Stage, connection: Connection, name: str = name, direction: Direction = direction) -> None:
        for peer in (Peer.LOCAL, Peer.REMOTE):
            connection.context.closed(direction, peer)
        stage.expect(connection.guest.take(), [f"{name}_connection_close 2 {peer}" for peer in (1, 2)])

    number = buffer

    @row(CONTINUE, f"{name} of a connection goes on", f"{name}_data return 1", "tick effective 2", f"tick continue {number}")
    def _(stage: Stage, connection: Connection, direction: Direction = direction) -> None:
        connection.send(direction, b"held")
        connection.root.tick()
        effect = Effect.CONTINUE_RESPONSE if direction else Effect.CONTINUE_REQUEST
        ((context, outcome),) = connection.guest.recorder.told
        stage.expect((context, bool(outcome.effects & effect), connection.context.take(direction)), (2, True, b"held"))

    @row(CLOSE, f"{name} of a connection is closed", f"{name}_data close {number}")
    def _(stage: Stage, connection: Connection, direction: Direction = direction) -> None:
        outcome = connection.context.data(direction, b"hello", False)
        assert outcome is not None
        stage.expect(bool(outcome.effects & Effect.CLOSE), True)


@row("proxy_on_log", "of a connection too, between on_done and on_delete")
def _(stage: Stage, connection: Connection) -> None:
    connection.context.finish()
    stage.expect(connection.guest.take(), ["done 2", "log 2", "delete 2"])
