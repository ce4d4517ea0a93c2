"""A connection to an upstream over HTTP/2, shared by many streams: requests out, events of streams in.

The law: a stream is told its end once, by `h2_end` or `h2_lost`. A peer that says GOAWAY keeps the streams that it has begun;
those that it has not can go elsewhere. A connection takes so many requests, and is idle for so long, as its upstream's
`keepalive_pool` says. Data is handed on as it comes; a stream that is paused gets no more than its window.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from data_plane.config.snapshot import KeepalivePool
from data_plane.h2.abuse import ANSWERED, SENT
from data_plane.h2.connection import CLOSED, LAST, LEAVING, H2Protocol, Handlers
from data_plane.h2.outflow import Outflow
from data_plane.http import limits
from shared.proxy_wasm.pairs import Pairs

# A new connection whose first stream never comes.
UNUSED_SECONDS = 10.0
# RFC 9113 6.5.2 asks servers to take no fewer; before a server has said how many, it may be no more.
MOST_STREAMS = 100
# Half of all stream ids: far from the end of them, another connection is opened.
LAST_STREAM = 1 << 30
# What one stream's answer may be ahead of its client: as much as one read of a connection of HTTP/1 brings.
WINDOW = 256 * 1024
# A dead host is found in two minutes. Not by PING: gRPC servers refuse one that comes more often than every five.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))

# What a lost connection is called in replies.py.
_KINDS = {"unread": "upstream_send_timeout", "bad_frame": "upstream_bad_response", "left": "upstream_bad_response"}


class StreamListener(Protocol):
    def h2_headers(self, fields: Pairs, eos: bool) -> None: ...

    def h2_interim(self, fields: Pairs) -> None:
        """A response that precedes the final one."""

    def h2_data(self, data: bytes) -> None: ...

    def h2_trailers(self, fields: Pairs) -> None: ...

    def h2_end(self) -> None:
        """The peer has said all."""

    def h2_lost(self, kind: str, unprocessed: bool) -> None:
        """`unprocessed`: the peer has surely done nothing for it."""

    def h2_taken(self) -> None:
        """Some of what was to be sent has left."""


class _Stream(Outflow):
    """`unread` are bytes that its window has not been given back yet."""

    __slots__ = ("listener", "paused", "unread")

    def __init__(self, stream_id: int, listener: StreamListener) -> None:
        super().__init__(stream_id)
        self.listener = listener
        self.paused = False
        self.unread = 0

    def taken(self) -> None:
        self.listener.h2_taken()


class UpstreamH2Connection(H2Protocol[_Stream]):
    """`closed` is told when it takes no more streams, `rested` when it has none; `problem` is why it ended."""

    window = WINDOW

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        closed: Callable[[UpstreamH2Connection], None],
        keepalive: KeepalivePool,
        rested: Callable[[], None],
    ) -> None:
        super().__init__(loop, client_side=True, opening=0)
        self.problem = "upstream_closed"
        self.opened = 0
        # When something last came, in the loop's seconds.
        self.heard_at = loop.time()
        self._closed = closed
        self._keepalive = keepalive
        self._rested = rested
        self._sent_frames = 0

    def __repr__(self) -> str:
        return f"<UpstreamH2Connection streams={len(self.streams)} opened={self.opened}>"

    # For its users.

    def takes_more(self) -> bool:
        if self._state >= LAST:
            return False
        return len(self.streams) < min(self._machine.remote_settings.max_concurrent_streams, MOST_STREAMS)

    def open(self, listener: StreamListener, fields: list[tuple[bytes, bytes]], *, eos: bool = False) -> int:
        """Its id. With `eos` the fields are all of the request."""
        stream_id = self._machine.get_next_available_stream_id()
        self._machine.send_headers(stream_id, fields, end_stream=eos)
        stream = self.streams[stream_id] = _Stream(stream_id, listener)
        stream.eos = stream.ended = eos
        self.opened += 1
        if stream_id >= LAST_STREAM or self.opened >= self._keepalive.requests:
            self._end()
        if not self._blocked:
            self._deadline.clear()
        self.flush_soon()
        return stream_id

    def send(self, stream_id: int, data: bytes, eos: bool, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.eos:
            stream.put(data)
            stream.eos = eos
            if trailers:
                stream.trailers = trailers
            if data or eos:
                self.turn(stream)

    def unsent(self, stream_id: int) -> int:
        stream = self.streams.get(stream_id)
        return 0 if stream is None else stream.size

    def pause(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.paused = True

    def resume(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.paused = False
            self._open_window(stream)

    def reset(self, stream_id: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """The stream is of no interest any more, and hears nothing."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None and self._state < LEAVING:
            self._reset(stream, code)
            self.rest()

    def retire(self) -> None:
        """It takes no more streams, and ends with those that it has."""
        self._end()
        self.rest()

    def close(self) -> None:
        if self._state < LEAVING:
            self._machine.close_connection()
            self._leave("closed")

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
        super().connection_made(transport)
        # Whoever it was opened for comes in one of the loop's next rounds, also where nothing is to be kept.
        self._deadline.set(UNUSED_SECONDS)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        super().data_received(data)
        if self._turns.frames != self._sent_frames:
            self._patience.earn(SENT * (self._turns.frames - self._sent_frames))
            self._sent_frames = self._turns.frames

    def pause_writing(self) -> None:
        self._blocked = True
        self._deadline.set(limits.SEND_SECONDS)

    # What the peer says.

    def _on_event(self, event: events.Event) -> None:
        handle = _HANDLERS.get(type(event))
        if handle is not None:
            handle(self, event)

    def _on_headers(self, event: events.ResponseReceived) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            stream.listener.h2_headers(_pairs(event.headers), event.stream_ended is not None)

    def _on_interim(self, event: events.InformationalResponseReceived) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            stream.listener.h2_interim(_pairs(event.headers))

    def _on_data(self, event: events.DataReceived) -> None:
        size = event.flow_controlled_length or 0
        self.give_back(size)
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return
        stream.unread += size
        if event.data:
            stream.listener.h2_data(event.data)
        if not stream.paused and event.stream_ended is None:
            self._open_window(stream)

    def _open_window(self, stream: _Stream) -> None:
        if stream.unread >= WINDOW // 2:
            with suppress(ProtocolError):
                self._machine.increment_flow_control_window(stream.unread, stream.id)
            stream.unread = 0
            self.flush_soon()

    def _on_trailers(self, event: events.TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            stream.listener.h2_trailers(_pairs(event.headers))

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = self.streams.pop(event.stream_id or 0, None)
        if stream is None:
            return
        if not stream.ended:
            # What this side has not sent yet is of no use to anybody.
            self._reset(stream, ErrorCodes.CANCEL)
        self._patience.earn(ANSWERED)
        self.rest()
        stream.listener.h2_end()

    def _on_reset(self, event: events.StreamReset) -> None:
        stream = self.streams.pop(event.stream_id or 0, None)
        if stream is not None:
            stream.ended = True
            self._patience.earn(ANSWERED)
            self.rest()
            stream.listener.h2_lost("upstream_closed", event.error_code == ErrorCodes.REFUSED_STREAM)

    def _on_settings(self, event: events.RemoteSettingsChanged) -> None:
        self._turn_all()

    def _on_goaway(self, event: events.ConnectionTerminated) -> None:
        self._end()
        begun = event.last_stream_id or 0
        for stream_id in [stream_id for stream_id in self.streams if stream_id > begun]:
            stream = self.streams.pop(stream_id)
            stream.ended = True
            stream.listener.h2_lost("upstream_closed", True)
        self.rest()

    # The connection.

    def _end(self) -> None:
        """It takes no more streams."""
        if self._state < LAST:
            self._state = LAST
            self._closed(self)

    def _reset(self, stream: _Stream, code: ErrorCodes) -> None:
        stream.ended = True
        stream.drop()
        with suppress(ProtocolError):
            self._machine.reset_stream(stream.id, code)
        self.flush_soon()

    def _sent_all(self, stream: _Stream) -> None:
        """The answer is still to come."""

    def rest(self) -> None:
        if self.streams or self._state >= LEAVING:
            return
        if self._state == LAST:
            self._leave("closed")
        elif not self._blocked:
            self._deadline.set(self._keepalive.idle_timeout)
            self._rested()

    def _expired(self) -> None:
        if self._blocked:
            self._abort("unread")
        else:
            self.close()

    def _leave(self, kind: str) -> None:
        """A server is not waited for."""
        if self._state < LEAVING:
            self._write()
            self._lost(kind)
            self._transport.close()

    def _lost(self, kind: str) -> None:
        if self._state != CLOSED:
            self.problem = _KINDS.get(kind, "upstream_closed")
            self._end()
        super()._lost(kind)

    def _lose_streams(self, kind: str) -> None:
        streams = tuple(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.ended = True
            stream.listener.h2_lost(self.problem, False)


def _pairs(headers: Any) -> Pairs:  # noqa: ANN401 - h2 has its own subclasses of tuple
    return tuple((bytes(name), bytes(value)) for name, value in headers or ())


_HANDLERS: Handlers = {
    events.ResponseReceived: UpstreamH2Connection._on_headers,
    events.InformationalResponseReceived: UpstreamH2Connection._on_interim,
    events.DataReceived: UpstreamH2Connection._on_data,
    events.TrailersReceived: UpstreamH2Connection._on_trailers,
    events.StreamEnded: UpstreamH2Connection._on_end,
    events.StreamReset: UpstreamH2Connection._on_reset,
    events.WindowUpdated: UpstreamH2Connection._on_window,
    events.RemoteSettingsChanged: UpstreamH2Connection._on_settings,
    events.ConnectionTerminated: UpstreamH2Connection._on_goaway,
}
