"""What a worker does when it is short of memory or of files: it takes in nobody who is new, instead of failing whom it serves.

The law: above the limit of memory no connection and no request's body is let in, and the idle are let go; below 95 % of it all
is as it was. What is counted is what the worker has for itself: its code and the state that workers share are not its to give
back. Heads that clients do not complete, over HTTP/2 frames, have a limit of their own, for all of them together; the largest
are given up first. Without a reserve of files nobody is let in: who comes waits in the kernel's queue, and no accept fails for
ever.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
from collections.abc import Callable

import structlog

from data_plane.h2.downstream import H2ClientConnection
from data_plane.http import limits
from data_plane.http.doors import Doors
from data_plane.http.downstream import ClientConnection
from data_plane.http.listener import Gateway

log = structlog.get_logger(__name__)

# Envoy's overload manager looks every 0.25 s.
LOOK_SECONDS = 0.25
# Files for what is under way: upstream connections of the requests that are here, the store, logs.
RESERVED = 32
# For 10,000 clients a look takes about a millisecond.
HEADS_SECONDS = 1.0
# Of the limit: so that a worker does not change its mind with every connection.
ENOUGH = 0.95
# Taken from the number of clients that may come, and given back: others count in it meanwhile.
_SHUT = 1 << 30

HeadHolder = ClientConnection | H2ClientConnection

_PAGE = os.sysconf("SC_PAGE_SIZE")
_libc = ctypes.CDLL(None)


def private_bytes() -> int:
    """Resident memory of this process that no other has as well."""
    with open("/proc/self/statm", "rb", buffering=0) as file:
        _, resident, shared, *_ = file.read(256).split()
    return (int(resident) - int(shared)) * _PAGE


class MemoryGuard:
    """`changed` hears whether the worker is short of memory, when that begins and when it ends."""

    def __init__(
        self,
        gateway: Gateway,
        limit: int,
        changed: Callable[[bool], None],
        used: Callable[[], int] = private_bytes,
    ) -> None:
        self._gateway = gateway
        self._limit = limit
        self._changed = changed
        self._used = used
        self.is_short = False
        # The limit of a body's length that is not in force now. A chunked body's is unknown: -1.
        self._bodies = -2
        self._looking: asyncio.TimerHandle = gateway.loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        self._looking.cancel()
        if self.is_short:
            self._switch(False)

    def _look(self) -> None:
        self._looking = self._gateway.loop.call_later(LOOK_SECONDS, self._look)
        used = self._used()
        if used > self._limit:
            if not self.is_short:
                log.warning("short of memory, refusing connections and bodies", used=used, limit=self._limit)
                self._switch(True)
            self._shed()
        elif self.is_short and used < ENOUGH * self._limit:
            log.info("enough memory again", used=used, limit=self._limit)
            self._switch(False)

    def _switch(self, short: bool) -> None:
        self.is_short = short
        self._gateway.limit += -_SHUT if short else _SHUT
        limits.BODY_BYTES, self._bodies = self._bodies, limits.BODY_BYTES
        limits.BODY_REFUSAL = "memory_short" if short else "body_too_large"
        self._changed(short)

    def _shed(self) -> None:
        """What can be given up at once; what is being answered goes on."""
        for client in tuple(self._gateway.clients):
            client.drain()
        # The allocator keeps what was freed, and the kernel counts it.
        trim = getattr(_libc, "malloc_trim", None)
        if trim is not None:
            trim(0)


class HeadGuard:
    """Looks only when there are so many clients that their heads could exceed the limit."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._looking: asyncio.TimerHandle = gateway.loop.call_later(HEADS_SECONDS, self._look)

    def close(self) -> None:
        self._looking.cancel()

    def _look(self) -> None:
        self._looking = self._gateway.loop.call_later(HEADS_SECONDS, self._look)
        clients = self._gateway.clients
        if len(clients) * limits.REQUEST_HEAD_BYTES > limits.HELD_HEAD_BYTES:
            self._shed([one for one in clients if isinstance(one, HeadHolder) and one.held_head])

    def _shed(self, holding: list[HeadHolder]) -> None:
        excess = sum(one.held_head for one in holding) - limits.HELD_HEAD_BYTES
        if excess <= 0:
            return
        given_up = 0
        for one in sorted(holding, key=lambda one: one.held_head, reverse=True):
            if excess <= 0:
                break
            excess -= one.held_head
            one.give_up_head()
            given_up += 1
        log.warning("clients do not complete their requests' heads, the largest are given up", given_up=given_up)


class FileGuard:
    """Shuts the doors while files are short. The kernel gives the lowest number that is free: a high one says that few are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, doors: Doors) -> None:
        self._loop = loop
        self._doors = doors
        self.is_short = False
        self._looking: asyncio.TimerHandle = loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        self._looking.cancel()

    def _look(self) -> None:
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        left = files_left()
        if not self.is_short and left < RESERVED:
            self.is_short = True
            self._doors.shut()
            log.warning("short of files, letting nobody in", left=left)
        elif self.is_short and left >= 2 * RESERVED:
            self.is_short = False
            log.info("enough files again", left=left)
            self._doors.open_soon(self._failed)

    def _failed(self) -> None:
        self.is_short = True


def files_left() -> int:
    """At most so many can still be opened."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.dup(0)
    except OSError:
        return 0
    os.close(lowest)
    return soft - lowest if soft != resource.RLIM_INFINITY else 1 << 30
