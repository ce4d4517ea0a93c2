"""A connection from a client that speaks HTTP/2: an exchange for each of its streams.

The law: a stream's fault costs that stream, a connection's fault is told by GOAWAY and ends all of them. What a client may ask
for is bounded by limits.py and abuse.py. Draining takes two GOAWAYs (RFC 9113 6.8): the first says that no request will be
taken any more but takes those that are on their way; the second, a round trip later, says which were.

Entry points: ALPN's `h2` (TLS), and prior knowledge in the clear (choosing.py). `Upgrade: h2c` is ignored, as RFC 9113 3.1
has it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from data_plane.exchange.framing import length_line
from data_plane.exchange.messages import RequestFields, RequestHead
from data_plane.exchange.opening import open_exchange
from data_plane.exchange.replies import reply_for
from data_plane.h2.abuse import ANSWERED, REFUSAL_PRICE, SENT, OutOfPatience
from data_plane.h2.client_stream import ClientStream
from data_plane.h2.compression import FieldBlock
from data_plane.h2.connection import CLOSED, GOING, LAST, LEAVING, OPEN, H2Protocol, Handlers
from data_plane.h2.fields import Field, MalformedError, request_head, trailer_lines
from data_plane.h2.frames import PREFACE
from data_plane.h2.limits import CONCURRENT_STREAMS, GOAWAY_SECONDS, STREAM_IDLE_SECONDS
from data_plane.http import limits
from data_plane.http.forwarded import Forwarding, forwarding_for
from data_plane.http.head import NO_FIELDS, HeadError, parse_request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from data_plane.exchange.exchange import Exchange
    from data_plane.http.listener import Gateway
    from shared.proxy_wasm.tls_properties import TlsFacts

_GOAWAY_PING = b"waspgate"
_LAST_ID = 2**31 - 1


class H2ClientConnection(H2Protocol[ClientStream]):
    """One per accepted connection, made and used as http.downstream.ClientConnection is."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway.loop, client_side=False, opening=len(PREFACE))
        self._gateway = gateway
        self._known: RequestFields = NO_FIELDS
        self._forwarded = Forwarding("", 0).lines
        self._opened = 0
        self._last_id = _LAST_ID
        self._sent_frames = 0
        # Which frame the deadline is for.
        self._due_frame = 1
        self.connection_id = 0
        self.client_address = ("", 0)
        self.local_address = ("", 0)
        self.tls: TlsFacts | None = None

    def __repr__(self) -> str:
        return f"<H2ClientConnection {self.client_address} streams={len(self.streams)} opened={self._opened}>"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername") or ("", 0)
        local = transport.get_extra_info("sockname") or ("", 0)
        self.client_address = (peer[0], peer[1])
        self.local_address = (local[0], local[1])
        self.tls = transport.get_extra_info("tls")
        self._forwarded = forwarding_for(self, "https" if self.tls else "http", self._gateway.trust).lines
        self.connection_id = self._gateway.admit(self)
        super().connection_made(transport)
        self._deadline.set(limits.HEAD_SECONDS)
        if not self.connection_id:
            self.leave(ErrorCodes.REFUSED_STREAM)
            transport.close()
        elif self._gateway.draining:
            self.drain()

    def connection_lost(self, error: Exception | None) -> None:
        self._gateway.dismiss(self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._state >= LEAVING:
            return
        if self._turns.frames != self._sent_frames:
            self._patience.earn(SENT * (self._turns.frames - self._sent_frames))
            self._sent_frames = self._turns.frames
        if self._blocked:
            return
        if self._scanner.unfinished:
            # It must be here in time as a whole, however it drips.
            if self._scanner.current != self._due_frame:
                self._due_frame = self._scanner.current
                self._deadline.set(limits.HEAD_SECONDS)
        else:
            self._due_frame = -1
            self._deadline.clear()
            self.rest()

    def resume_writing(self) -> None:
        self._due_frame = -1
        super().resume_writing()

    @property
    def held_head(self) -> int:
        return self._scanner.held

    def give_up_head(self) -> None:
        self.leave(ErrorCodes.ENHANCE_YOUR_CALM)

    # What the client says.

    def _on_event(self, event: events.Event) -> None:
        handle = _HANDLERS.get(type(event))
        if handle is not None:
            try:
                handle(self, event)
            except OutOfPatience as refusal:
                self.leave(refusal.code)

    def _on_request(self, event: events.RequestReceived) -> None:
        stream_id = event.stream_id or 0
        if stream_id > self._last_id:
            # It was on its way when the last GOAWAY left: it is for another connection.
            self._refuse_stream(stream_id)
            return
        if len(self.streams) >= CONCURRENT_STREAMS:
            self._patience.charge(self._loop.time())
            self._refuse_stream(stream_id)
            return
        self._opened += 1
        if self._opened >= limits.CONNECTION_REQUESTS and self._state == OPEN:
            self.drain()
        done = event.stream_ended is not None
        stream = self.streams[stream_id] = self._stream(stream_id, done)
        try:
            head = _head(event.headers or (), done)
            request = parse_request(head, self._known, self._forwarded)
            length = request.fields.length
            if done and length > 0:
                raise MalformedError
            if length and length > limits.BODY_BYTES:
                raise HeadError(limits.BODY_REFUSAL)
        except MalformedError:
            self._gateway.counters.requests += 1
            self.malformed(stream)
        except HeadError as error:
            self._patience.charge(self._loop.time(), REFUSAL_PRICE)
            self._refuse(stream, error.kind)
        else:
            self._begin(stream, request)

    def _begin(self, stream: ClientStream, request: RequestHead) -> None:
        fields = self._known = request.fields
        fields.minor_version = 2
        # Of a trusted peer it is that of the client that it speaks for.
        stream.client_address = self.client_address
        stream.length = fields.length
        if not fields.length:
            stream.request_done = True
        self._gateway.counters.requests += 1
        stream.exchange = exchange = self._open(stream, request)
        exchange.start(b"", stream.request_done)

    def _stream(self, stream_id: int, request_done: bool) -> ClientStream:
        return ClientStream(self, stream_id, request_done, self._loop.time())

    def _open(self, stream: ClientStream, request: RequestHead) -> Exchange:
        return open_exchange(self._gateway, stream, request)

    def _refuse(self, stream: ClientStream, kind: str) -> None:
        """Answer what cannot become an exchange."""
        reply = reply_for(kind)
        counters = self._gateway.counters
        counters.requests += 1
        counters.responses[reply.status] += 1
        stream.finish(b"%b%b\r\n%b" % (reply.head, length_line(len(reply.body)), reply.body), False)

    def _refuse_stream(self, stream_id: int) -> None:
        with suppress(ProtocolError):
            self._machine.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)

    def _on_data(self, event: events.DataReceived) -> None:
        size = event.flow_controlled_length or 0
        self.give_back(size)
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            stream.touched = self._loop.time()
            stream.body(event.data or b"", size, event.stream_ended is not None)

    def _on_trailers(self, event: events.TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return
        try:
            lines = trailer_lines(event.headers or ())
        except MalformedError:
            self.malformed(stream)
        except HeadError as error:
            stream.fail(error.kind)
        else:
            stream.ends_with(lines)

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            stream.request_done = True
            if stream.ended:
                self._close(stream)

    def _on_reset(self, event: events.StreamReset) -> None:
        if not event.remote_reset:
            # What made h2 reset it costs as much as a reset of the client's own (CVE-2025-8671).
            self._patience.charge(self._loop.time())
        stream = self.streams.pop(event.stream_id or 0, None)
        if stream is not None:
            stream.gone()
            self.rest()

    def _on_settings(self, event: events.RemoteSettingsChanged) -> None:
        self._turn_all()

    def _on_ping_ack(self, event: events.PingAckReceived) -> None:
        if self._state == GOING and event.ping_data == _GOAWAY_PING:
            self._go()

    def _on_goaway(self, event: events.ConnectionTerminated) -> None:
        """The client opens no more streams."""
        if self._state < LAST:
            self._state = LAST
            self.rest()

    # What a stream asks.

    def now(self) -> float:
        return self._loop.time()

    def later(self, call: Callable[[], None]) -> None:
        self._loop.call_soon(call)

    def send_head(self, stream: ClientStream, fields: list[Field], eos: bool) -> None:
        self._machine.send_headers(stream.id, fields, end_stream=eos)
        self.flush_soon()

    def sent_all(self, stream: ClientStream) -> None:
        """Its response is complete. A request that is not is of no use any more (RFC 9113 8.1)."""
        if stream.request_done:
            self._patience.earn(ANSWERED)
            self._close(stream)
        else:
            self.reset(stream, ErrorCodes.NO_ERROR)

    def _sent_all(self, stream: ClientStream) -> None:
        self.sent_all(stream)

    def open_window(self, stream: ClientStream, size: int) -> None:
        with suppress(ProtocolError):
            self._machine.increment_flow_control_window(size, stream.id)
        self.flush_soon()

    def reset(self, stream: ClientStream, code: ErrorCodes) -> None:
        stream.ended = True
        stream.drop()
        with suppress(ProtocolError):
            self._machine.reset_stream(stream.id, code)
        self.flush_soon()
        self._close(stream)

    def malformed(self, stream: ClientStream) -> None:
        """The message breaks RFC 9113 section 8. Raises OutOfPatience."""
        stream.gone()
        self.reset(stream, ErrorCodes.PROTOCOL_ERROR)
        self._patience.charge(self._loop.time())

    def _close(self, stream: ClientStream) -> None:
        if self.streams.pop(stream.id, None) is not None:
            self.rest()

    # What the gateway asks.

    @property
    def busy(self) -> int:
        """Streams that have not ended."""
        return len(self.streams)

    @property
    def stays(self) -> bool:
        return bool(self.streams) or self._state < LAST

    def sweep(self, idle_sweeps: int, held_sweeps: int) -> None:
        """Looked at every now and then: end the streams over which nothing moves."""
        now = self._loop.time()
        for stream in tuple(self.streams.values()):
            if stream.size and now - stream.waits_since > limits.SEND_SECONDS:
                # Its window stays closed: what waits for it must not wait for ever (CVE-2019-9517).
                self._give_up(stream)
            elif stream.look(held_sweeps):
                continue
            elif stream.is_talking and now - stream.touched > STREAM_IDLE_SECONDS:
                self._give_up(stream)
            elif stream.awaits_body and (stream.drips() or now - stream.touched > limits.BODY_IDLE_SECONDS):
                stream.fail("request_timeout")

    def _give_up(self, stream: ClientStream) -> None:
        stream.gone()
        self.reset(stream, ErrorCodes.CANCEL)

    def drain(self) -> None:
        """The first of two GOAWAYs."""
        if self._state == OPEN:
            self._state = GOING
            self._machine.close_connection(ErrorCodes.NO_ERROR, last_stream_id=_LAST_ID)
            self._machine.ping(_GOAWAY_PING)
            self.flush_soon()
            self._loop.call_later(GOAWAY_SECONDS, self._go)

    def _go(self) -> None:
        """The second: what comes after it is not taken."""
        if self._state == GOING:
            self._state = LAST
            self._last_id = self._machine.highest_inbound_stream_id
            self._machine.close_connection(ErrorCodes.NO_ERROR, last_stream_id=self._last_id)
            self.flush_soon()
            self.rest()

    def stop(self) -> None:
        """The worker's time is over."""
        if self._state < CLOSED:
            self._write()
            self._abort("stopped")

    # The end.

    def rest(self) -> None:
        if self.streams or self._state >= LEAVING:
            return
        if self._state == LAST:
            # The last frames leave first.
            self._loop.call_soon(self._leave_if_done)
        else:
            self._deadline.set(limits.KEEPALIVE_SECONDS)

    def _leave_if_done(self) -> None:
        if self._state == LAST and not self.streams:
            self._leave("done")

    def _lose_streams(self, kind: str) -> None:
        streams = tuple(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.gone()

    def _expired(self) -> None:
        if self._state == LEAVING or self._blocked:
            self._abort("timeout")
        elif self._scanner.unfinished:
            self.leave(ErrorCodes.ENHANCE_YOUR_CALM)
        else:
            self.leave(ErrorCodes.NO_ERROR)


def _head(fields: Iterable[Field], eos: bool) -> bytes:
    """`request_head`, remembered with a block that may come again. Raises as that does."""
    if not eos or not isinstance(fields, FieldBlock):
        return request_head(fields, eos)
    if fields.head is None:
        fields.head = request_head(fields, eos)
    return fields.head


_HANDLERS: Handlers = {
    events.RequestReceived: H2ClientConnection._on_request,
    events.DataReceived: H2ClientConnection._on_data,
    events.TrailersReceived: H2ClientConnection._on_trailers,
    events.StreamEnded: H2ClientConnection._on_end,
    events.StreamReset: H2ClientConnection._on_reset,
    events.WindowUpdated: H2ClientConnection._on_window,
    events.RemoteSettingsChanged: H2ClientConnection._on_settings,
    events.PingAckReceived: H2ClientConnection._on_ping_ack,
    events.ConnectionTerminated: H2ClientConnection._on_goaway,
}
