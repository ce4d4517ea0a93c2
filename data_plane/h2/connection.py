"""One connection that speaks HTTP/2, at either end: bytes in, events of streams out; frames out as windows allow.

The law: whatever ends a connection ends its streams, each once. A connection that ends by this side's will says GOAWAY, and
reads on for a while so that the peer gets to read it. What is to be sent leaves once in a round of the event loop, for all
streams together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Generic, TypeVar, cast

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from data_plane.h2.abuse import OutOfPatience, Patience
from data_plane.h2.frames import FrameScanner, Refused
from data_plane.h2.limits import CONNECTION_WINDOW, STREAM_WINDOW, UNREAD_BYTES
from data_plane.h2.machine import Machine
from data_plane.h2.outflow import Outflow, Turns
from data_plane.http import limits
from data_plane.http.timers import Deadline

# OPEN: streams may begin; GOING: they may, but the peer has been asked not to; LAST: none may; LEAVING: what comes is not read
# any more; CLOSED.
OPEN, GOING, LAST, LEAVING, CLOSED = range(5)

S = TypeVar("S", bound=Outflow)


class H2Protocol(asyncio.Protocol, Generic[S]):
    """Base of both ends; `streams` are those of which something is still to come or to be sent."""

    window: ClassVar[int] = STREAM_WINDOW

    def __init__(self, loop: asyncio.AbstractEventLoop, *, client_side: bool, opening: int) -> None:
        self._loop = loop
        self._machine = Machine(client_side=client_side, window=self.window)
        self._turns = Turns(self._machine)
        self._patience = Patience(loop.time())
        self._scanner = FrameScanner(self._patience, opening)
        self._deadline = Deadline(loop, self._expired)
        self._transport: asyncio.Transport
        self._state = OPEN
        self._blocked = False
        self._flush_due = False
        # Bytes received that the connection's window has not been given back yet.
        self._received = 0
        self.streams: dict[int, S] = {}

    # What each end makes of it.

    def _on_event(self, event: events.Event) -> None:
        raise NotImplementedError

    def _lose_streams(self, kind: str) -> None:
        """All of them, because the connection has ended."""
        raise NotImplementedError

    def _sent_all(self, stream: S) -> None:
        """The stream's end has left."""
        raise NotImplementedError

    def _expired(self) -> None:
        raise NotImplementedError

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._machine.initiate_connection()
        self._machine.increment_flow_control_window(CONNECTION_WINDOW - STREAM_WINDOW)
        self.flush_soon()

    def data_received(self, data: bytes) -> None:
        if self._state >= LEAVING:
            return
        try:
            self._scanner.feed(data, self._loop.time())
            received = self._machine.receive_data(data)
        except (Refused, OutOfPatience) as refusal:
            self.leave(refusal.code)
            return
        except ProtocolError:
            # h2 has written its GOAWAY.
            self._leave("bad_frame")
            return
        for event in received:
            self._on_event(event)
            if self._state >= LEAVING:
                return
        self.flush_soon()

    def eof_received(self) -> None:
        """The transport closes itself after this."""
        self._lost("closed")

    def connection_lost(self, error: Exception | None) -> None:
        self._lost("closed")

    def pause_writing(self) -> None:
        self._blocked = True
        if self._state < LEAVING:
            self._deadline.set(limits.SEND_SECONDS)

    def resume_writing(self) -> None:
        self._blocked = False
        if self._state < LEAVING:
            self._deadline.clear()
            self.rest()
            self._flush()

    # Windows.

    def give_back(self, size: int) -> None:
        """The connection's window counts what is in flight only: a stream that is slow must not stop the others."""
        self._received += size
        if self._received >= CONNECTION_WINDOW // 2:
            self._machine.increment_flow_control_window(self._received)
            self._received = 0

    def _on_window(self, event: events.WindowUpdated) -> None:
        if event.stream_id:
            stream = self.streams.get(event.stream_id)
            if stream is not None and (stream.size or stream.eos):
                self._turns.add(stream)
        else:
            self._turn_all()

    def _turn_all(self) -> None:
        for stream in self.streams.values():
            if stream.size or stream.eos:
                self._turns.add(stream)

    # Sending.

    def turn(self, stream: S) -> None:
        """The stream has something to send."""
        self._turns.add(stream)
        self.flush_soon()

    def flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        while self._state < LEAVING:
            if self._blocked or not self._turns:
                self._write()
                return
            # Heads leave with what lies behind them.
            served = self._turns.fill()
            self._write()
            for stream in served:
                stream.taken()
                if stream.ended:
                    self._sent_all(cast(S, stream))

    def _write(self) -> None:
        data = self._machine.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > UNREAD_BYTES:
                self._abort("unread")

    # The end.

    def rest(self) -> None:
        """There may be nothing left to do."""

    def leave(self, code: ErrorCodes) -> None:
        """Tell the peer why, and end."""
        if self._state < LEAVING:
            self._machine.close_connection(code)
            self._leave("left")

    def _leave(self, kind: str) -> None:
        self._write()
        if self._state >= LEAVING:
            return
        self._state = LEAVING
        self._lose_streams(kind)
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            # The peer may have reset the connection, and asyncio not have told yet.
            with suppress(OSError):
                self._transport.write_eof()
        self._deadline.set(limits.LINGER_IDLE_SECONDS)

    def _abort(self, kind: str) -> None:
        self._lost(kind)
        self._transport.abort()

    def _lost(self, kind: str) -> None:
        if self._state != CLOSED:
            self._state = CLOSED
            self._deadline.close()
            self._lose_streams(kind)


Handlers = dict[type[events.Event], Callable[[Any, Any], None]]
