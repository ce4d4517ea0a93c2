"""An HTTP/2 client in memory around the connection under test, so that a test reads as a transcript of both sides.

The law: `take` has what the client is told, one line an event, and what the exchanges do towards the upstream; time stands
until `pass_time`. The client checks nothing of what it is asked to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from hyperframe.frame import Frame, GoAwayFrame

from data_plane.exchange.framing import CHUNKED_LINE, length_line
from data_plane.exchange.messages import CHUNKED, ResponseHead
from data_plane.h2.downstream import H2ClientConnection
from data_plane.http.listener import Gateway
from data_plane.http.trust import NOBODY
from tests.support.chain import ManualLoop
from tests.support.exchange import Conn, Stage

Fields = list[tuple[bytes, bytes]]


def request(method: bytes = b"GET", path: bytes = b"/p", *more: tuple[bytes, bytes]) -> Fields:
    return [(b":method", method), (b":scheme", b"http"), (b":authority", b"t"), (b":path", path), *more]


GRPC = request(b"POST", b"/s/m", (b"content-type", b"application/grpc"), (b"te", b"trailers"))


class Deaf(H2ConnectionStateMachine):
    """A client that goes on after a GOAWAY."""

    def process_input(self, input_: ConnectionInputs) -> list[events.Event]:
        return [] if input_ is ConnectionInputs.RECV_GOAWAY else super().process_input(input_)


class GatewayStage(Stage):
    """As much of a gateway as a client's connection uses."""

    def __init__(self, loop: ManualLoop, *nodes: str, **options: Any) -> None:  # noqa: ANN401 - as the stage's
        super().__init__(*nodes, **options)
        self.loop = loop
        self.trust = NOBODY
        self.clients: set[object] = set()
        self.limit = 1

    def admit(self, client: object) -> int:
        if len(self.clients) >= self.limit:
            return 0
        self.clients.add(client)
        return 7

    def dismiss(self, client: object) -> None:
        self.clients.discard(client)


class H2Wire:
    """The connection under test, its transport, and the client."""

    def __init__(
        self,
        *nodes: str,
        greets: bool = True,
        full: bool = False,
        window: int = 65_535,
        make: Callable[[Gateway], H2ClientConnection] = H2ClientConnection,
        **options: Any,  # noqa: ANN401 - as the stage's
    ) -> None:
        self.loop = ManualLoop()
        self.stage = GatewayStage(self.loop, *nodes, **options)
        self.stage.limit = 0 if full else 1
        self.client = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=True,
            )
        )
        self.client.state_machine = Deaf()
        self.sent = bytearray()
        self.closed = self.aborted = self.half_closed = False
        # The client does not look at what comes; the transport keeps what is written.
        self.deaf = self.stuck = False
        self.connection = make(cast(Gateway, self.stage))
        self.connection.connection_made(cast(asyncio.BaseTransport, self))
        if greets:
            self.client.local_settings.initial_window_size = window
            self.client.local_settings.acknowledge()
            self.client.initiate_connection()
            self.flush()
            self.stage.take()

    # asyncio.Transport.

    def get_extra_info(self, name: str) -> object:
        return {"peername": ("10.0.0.1", 1234), "sockname": ("10.0.0.2", 80)}.get(name)

    def get_write_buffer_size(self) -> int:
        return len(self.sent) if self.stuck else 0

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def write(self, data: bytes) -> None:
        self.sent += data
        if self.deaf or self.stuck:
            return
        for event in self.client.receive_data(data):
            line = _line(event)
            if line:
                self.stage.say(line)

    # The client.

    def send(self, fields: Fields, body: bytes | None = None, *, eos: bool = True) -> int:
        """A request; with a `body` (of at most a frame) that follows its head."""
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, fields, end_stream=eos and body is None)
        if body is not None:
            self.client.send_data(stream, body, end_stream=eos)
        self.flush()
        return stream

    def flush(self) -> None:
        """What the client has to say arrives, and is answered."""
        self.receive(self.client.data_to_send())

    def receive(self, data: bytes) -> None:
        if data:
            self.connection.data_received(data)
        self.loop.advance()

    def receive_frames(self, *frames: Frame) -> None:
        self.receive(b"".join(frame.serialize() for frame in frames))

    def pass_time(self, seconds: float) -> list[str]:
        self.loop.advance(seconds)
        return self.take()

    def take(self) -> list[str]:
        self.loop.advance()
        return self.stage.take()

    def exchange(self, stream: int) -> Any:  # noqa: ANN401 - whatever kind it is
        return self.connection.streams[stream].exchange

    def connected(self, stream: int, name: str = "a") -> list[str]:
        """The upstream connection that the stream's exchange waits for."""
        self.exchange(stream).upstream_ready(Conn(self.stage, name, reused=False))
        return self.take()

    def answer(self, stream: int, body: bytes = b"", *, length: int = 0, eos: bool = True, status: int = 200) -> list[str]:
        """The upstream's answer: its head with the beginning of its body."""
        framing = length_line(length) if length >= 0 else CHUNKED_LINE if length == CHUNKED else b""
        head = ResponseHead(status, b"HTTP/1.1 %d X\r\nX-A: b\r\n" % status, length, framing, True)
        self.exchange(stream).upstream_response(head, body, eos)
        return self.take()

    @property
    def frames(self) -> Iterator[Frame]:
        """All that were sent."""
        at = 0
        while at < len(self.sent):
            frame, size = Frame.parse_frame_header(memoryview(self.sent[at : at + 9]))
            frame.parse_body(memoryview(self.sent[at + 9 : at + 9 + size]))
            at += 9 + size
            yield frame

    @property
    def goaway(self) -> str | None:
        """The code of the last one."""
        codes = [frame.error_code for frame in self.frames if isinstance(frame, GoAwayFrame)]
        return ErrorCodes(codes[-1]).name if codes else None


def _line(event: events.Event) -> str:
    if isinstance(event, events.ResponseReceived | events.InformationalResponseReceived | events.TrailersReceived):
        fields = dict(event.headers or ())
        status = fields.pop(b":status", b"trailers").decode()
        rest = " ".join(f"{name.decode()}={value.decode()}" for name, value in sorted(fields.items()))
        end = "." if not isinstance(event, events.InformationalResponseReceived) and event.stream_ended else ""
        return f"{event.stream_id}: {status} {rest}".rstrip() + end
    if isinstance(event, events.DataReceived):
        data = event.data or b""
        text = repr(data.decode()) if len(data) < 40 else f"({len(data)})"
        return f"{event.stream_id}: {text}{'.' if event.stream_ended else ''}"
    if isinstance(event, events.StreamReset):
        return f"{event.stream_id}: reset {ErrorCodes(event.error_code or 0).name}"
    if isinstance(event, events.ConnectionTerminated):
        last = event.last_stream_id or 0
        return f"goaway {ErrorCodes(event.error_code or 0).name} {'all' if last == 2**31 - 1 else last}"
    if isinstance(event, events.PingReceived):
        return "ping"
    return ""
