"""What the streams of one connection have to send: taken in turns, as far as windows and the transport allow.

The law: of all streams that have data and a window each sends one frame, then each the next; so a large body delays a small
one by no more than a frame of every other stream. Nothing is sent that the transport would only hold.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.h2.fields import Field
    from data_plane.h2.machine import Machine

# Handed to the transport in one piece, whose own limit is as large.
WRITE_BYTES = 64 * 1024


class Outflow:
    """Base of a stream: what it has to send. `eos`: nothing comes behind it; `ended`: the peer has been told so."""

    __slots__ = ("_pieces", "ended", "eos", "id", "queued", "size", "trailers")

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self._pieces: deque[bytes] = deque()
        self.size = 0
        self.eos = False
        self.ended = False
        self.queued = False
        self.trailers: list[Field] = []

    def taken(self) -> None:
        """Some of it has left."""
        raise NotImplementedError

    def put(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def take(self, room: int) -> bytes:
        """The next bytes, as many as there is room for."""
        pieces = self._pieces
        first = pieces[0]
        if self.size <= room:
            data = first if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
        elif len(first) > room:
            data = first[:room]
            # A view: to cut a long piece into frames must not copy the rest for each of them.
            pieces[0] = memoryview(first)[room:]  # type: ignore[assignment]  # joined or cut like bytes
        else:
            data = pieces.popleft()
        self.size -= len(data)
        return bytes(data)

    def drop(self) -> None:
        self._pieces.clear()
        self.size = 0


class Turns:
    """The streams that may have something to send, in the order of their turns."""

    __slots__ = ("_machine", "_ready", "frames")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ready: deque[Outflow] = deque()
        # DATA frames sent.
        self.frames = 0

    def add(self, stream: Outflow) -> None:
        if not stream.queued and not stream.ended:
            stream.queued = True
            self._ready.append(stream)

    def __bool__(self) -> bool:
        return bool(self._ready)

    def fill(self) -> list[Outflow]:
        """Give the machine about as much as one write takes; the streams of which something was taken."""
        machine, ready = self._machine, self._ready
        served: dict[int, Outflow] = {}
        space = WRITE_BYTES
        while ready and space > 0:
            stream = ready.popleft()
            stream.queued = False
            if stream.ended:
                continue
            sent = self._frame(machine, stream)
            if sent is None:
                # It waits for a window, which puts it back.
                continue
            space -= sent
            served[stream.id] = stream
            if stream.size:
                stream.queued = True
                ready.append(stream)
        return list(served.values())

    def _frame(self, machine: Machine, stream: Outflow) -> int | None:
        """The bytes of one frame, None when there is no window for one."""
        if stream.size:
            room = min(machine.local_flow_control_window(stream.id), machine.max_outbound_frame_size)
            if room <= 0:
                return None
            data = stream.take(room)
            last = stream.eos and not stream.size and not stream.trailers
            machine.send_data(stream.id, data, end_stream=last)
            self.frames += 1
        else:
            data = b""
            last = False
        if stream.eos and not stream.size:
            stream.ended = True
            if not last:
                self._end(machine, stream)
        return len(data)

    def _end(self, machine: Machine, stream: Outflow) -> None:
        if stream.trailers:
            machine.send_headers(stream.id, stream.trailers, end_stream=True)
        else:
            machine.end_stream(stream.id)
