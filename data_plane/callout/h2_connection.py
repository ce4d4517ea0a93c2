"""A connection to an upstream over HTTP/2, shared by many streams: bytes in, events of streams out.

The law: h2 decides what is valid; what it refuses ends the connection and all its streams. A stream is told its end once, by
`h2_end` or `h2_lost`. A peer that says GOAWAY keeps the streams that it has begun; those it has not can go elsewhere.

A peer can make this side hold a frame, the fields of one head (64 KiB) and answers to its control frames, which are bounded by
closing: data is handed on as it comes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings

from data_plane.http.timers import Deadline
from shared.proxy_wasm.pairs import Pairs

# An idle connection is closed after nginx's keepalive_timeout for upstreams.
IDLE_SECONDS = 60.0
HEADER_LIST_BYTES = 64 * 1024
# What may wait to be written: more means a peer that asks (pings, settings) and does not read.
UNREAD_BYTES = 1024 * 1024
# RFC 9113 6.5.2 asks servers to take no fewer; before a server has said how many, it may be no more.
MOST_STREAMS = 100
# Half of all stream ids: far from the end of them, another connection is opened.
LAST_STREAM = 1 << 30
# A dead host is found in two minutes. Not by PING: gRPC servers refuse one that comes more often than every five.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))

_TYPE_AT, _SETTINGS = 3, b"\4"


class StreamListener(Protocol):
    def h2_headers(self, fields: Pairs, eos: bool) -> None: ...

    def h2_data(self, data: bytes) -> None: ...

    def h2_trailers(self, fields: Pairs) -> None: ...

    def h2_end(self) -> None:
        """The peer has said all."""

    def h2_lost(self, kind: str, unprocessed: bool) -> None:
        """`unprocessed`: the peer has surely done nothing for it."""


class _Stream:
    """`eos`: nothing comes after what is pending; `ended`: the peer has been told."""

    __slots__ = ("ended", "eos", "listener", "pending")

    def __init__(self, listener: StreamListener) -> None:
        self.listener = listener
        self.pending = bytearray()
        self.eos = False
        self.ended = False


class _States(H2ConnectionStateMachine):
    """h2 takes GOAWAY for the end of everything; RFC 9113 6.8 lets streams that were begun go on to their ends."""

    def process_input(self, input_: ConnectionInputs) -> list[events.Event]:
        return [] if input_ is ConnectionInputs.RECV_GOAWAY else super().process_input(input_)


class UpstreamH2Connection(asyncio.Protocol):
    """`closed` is told when it takes no more streams; `problem` is why it ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, closed: Callable[[UpstreamH2Connection], None]) -> None:
        self.problem = "upstream_closed"
        self._closed = closed
        self._transport: asyncio.Transport
        self._streams: dict[int, _Stream] = {}
        self._deadline = Deadline(loop, self._expired)
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        limits = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES}
        self._h2.state_machine = _States()
        self._h2.local_settings = Settings(client=True, initial_values=limits)
        self._blocked = False
        self._last = False
        self._over = False
        # Bytes that have come, until the first frame is known.
        self._seen = 0
        self._greeted = False

    # --- for its users

    def takes_more(self) -> bool:
        if self._last or self._over:
            return False
        return len(self._streams) < min(self._h2.remote_settings.max_concurrent_streams, MOST_STREAMS)

    def open(self, listener: StreamListener, fields: list[tuple[bytes, bytes]]) -> int:
        stream_id = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, fields)
        self._streams[stream_id] = _Stream(listener)
        self._last = self._last or stream_id >= LAST_STREAM
        self._deadline.clear()
        self._flush()
        return stream_id

    def send(self, stream_id: int, data: bytes, eos: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.eos:
            stream.pending += data
            stream.eos = eos
            self._pump(stream_id, stream)
            self._flush()

    def unsent(self, stream_id: int) -> int:
        stream = self._streams.get(stream_id)
        return 0 if stream is None else len(stream.pending)

    def reset(self, stream_id: int) -> None:
        """The stream is of no interest any more, and hears nothing."""
        if self._streams.pop(stream_id, None) is not None and not self._over:
            self._reset(stream_id)
            self._flush()
            self._rest()

    def close(self) -> None:
        if not self._over:
            self._h2.close_connection()
            self._flush()
            self._lose("upstream_closed")

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
        self._h2.initiate_connection()
        self._flush()
        self._rest()

    def data_received(self, data: bytes) -> None:
        if self._over or (not self._greeted and not self._is_greeting(data)):
            return
        try:
            received = self._h2.receive_data(data)
        except ProtocolError:
            self._flush()
            self._lose("upstream_bad_response")
            return
        for event in received:
            handle = _HANDLERS.get(type(event))
            if handle is not None and not self._over:
                handle(self, event)
        self._flush()

    def _is_greeting(self, data: bytes) -> bool:
        """The first frame of a server is SETTINGS. Of another protocol's bytes h2 would wait for the length that they spell."""
        frame_type = data[_TYPE_AT - self._seen : _TYPE_AT - self._seen + 1]
        self._seen += len(data)
        self._greeted = self._seen > _TYPE_AT
        if frame_type not in (b"", _SETTINGS):
            self._lose("upstream_bad_response")
            return False
        return True

    def eof_received(self) -> None:
        self._lose("upstream_closed")

    def connection_lost(self, error: Exception | None) -> None:
        self._lose("upstream_closed")

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._pump_all()
        self._flush()

    # --- what the peer says

    def _on_headers(self, event: events.ResponseReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.listener.h2_headers(_pairs(event.headers), event.stream_ended is not None)

    def _on_data(self, event: events.DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is not None and event.data:
            stream.listener.h2_data(event.data)

    def _on_trailers(self, event: events.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.listener.h2_trailers(_pairs(event.headers))

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        if not stream.ended:
            # What this side has not sent yet is of no use to anybody.
            self._reset(event.stream_id)
        del self._streams[event.stream_id]
        self._rest()
        stream.listener.h2_end()

    def _on_reset(self, event: events.StreamReset) -> None:
        stream = self._streams.pop(event.stream_id, None)
        if stream is not None:
            self._rest()
            stream.listener.h2_lost("upstream_closed", event.error_code == ErrorCodes.REFUSED_STREAM)

    def _on_window(self, event: events.WindowUpdated) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._pump(event.stream_id, stream)
        elif not event.stream_id:
            self._pump_all()

    def _on_settings(self, event: events.RemoteSettingsChanged) -> None:
        self._pump_all()

    def _on_goaway(self, event: events.ConnectionTerminated) -> None:
        self._last = True
        self._closed(self)
        begun = event.last_stream_id or 0
        for stream_id in [stream_id for stream_id in self._streams if stream_id > begun]:
            self._streams.pop(stream_id).listener.h2_lost("upstream_closed", True)
        self._rest()

    # --- the connection

    def _pump_all(self) -> None:
        for stream_id, stream in list(self._streams.items()):
            self._pump(stream_id, stream)

    def _pump(self, stream_id: int, stream: _Stream) -> None:
        """As much as the peer's windows and this side's transport take."""
        # A frame that ends the stream may have come in the same bytes, its event being still to come.
        with suppress(StreamClosedError):
            while stream.pending and not self._blocked and not self._over:
                room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
                if room <= 0:
                    return
                piece = bytes(stream.pending[:room])
                del stream.pending[:room]
                stream.ended = stream.eos and not stream.pending
                self._h2.send_data(stream_id, piece, end_stream=stream.ended)
                self._flush()
            if stream.eos and not stream.pending and not stream.ended and not self._over:
                stream.ended = True
                self._h2.end_stream(stream_id)

    def _reset(self, stream_id: int) -> None:
        with suppress(StreamClosedError):
            self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._over:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > UNREAD_BYTES:
                self._lose("upstream_send_timeout")

    def _rest(self) -> None:
        """It may have become idle."""
        if not self._streams and not self._over:
            if self._last:
                self._lose("upstream_closed")
            else:
                self._deadline.set(IDLE_SECONDS)

    def _expired(self) -> None:
        self.close()

    def _lose(self, kind: str) -> None:
        if self._over:
            return
        self._over = True
        self.problem = kind
        self._deadline.close()
        self._closed(self)
        self._transport.close()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.listener.h2_lost(kind, False)


def _pairs(headers: Any) -> Pairs:  # noqa: ANN401 - h2 has its own subclasses of tuple
    return tuple((bytes(name), bytes(value)) for name, value in headers or ())


_HANDLERS: dict[type[events.Event], Callable[[UpstreamH2Connection, Any], None]] = {
    events.ResponseReceived: UpstreamH2Connection._on_headers,
    events.DataReceived: UpstreamH2Connection._on_data,
    events.TrailersReceived: UpstreamH2Connection._on_trailers,
    events.StreamEnded: UpstreamH2Connection._on_end,
    events.StreamReset: UpstreamH2Connection._on_reset,
    events.WindowUpdated: UpstreamH2Connection._on_window,
    events.RemoteSettingsChanged: UpstreamH2Connection._on_settings,
    events.ConnectionTerminated: UpstreamH2Connection._on_goaway,
}
