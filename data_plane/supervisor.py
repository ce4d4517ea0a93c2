"""The parent of the workers: starts them on one port, restarts what crashed, stops all together.

The law: a single thread that waits for signals; it serves nothing, reads no configuration, and has imported what a worker needs
before it forks, so that a new worker serves within a fraction of a second. A worker does not outlive it. One that crashes is
replaced at once, one that keeps crashing after growing pauses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import structlog

from data_plane.http.listener import listening_socket
from data_plane.observe import observer
from data_plane.observe.observer import Listeners
from data_plane.settings import Address, Settings, shown
from data_plane.tcp.addresses import StreamAddresses
from data_plane.worker import run, state_directory
from shared.proxy_wasm.state.directory import HostStateError, discard

log = structlog.get_logger(__name__)

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
# A worker that lived this long is forgiven its crash.
FORGIVEN_AFTER_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
# Beyond a worker's own grace, before it is killed.
STOP_SECONDS = 5.0

# The slot of the process that shows what the workers do.
OBSERVER = 0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Slot:
    """A worker's place: who is in it, and when the next one may come if nobody is."""

    __slots__ = ("number", "pause", "pid", "start_at", "started_at")

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.started_at = 0.0
        self.start_at = 0.0
        self.pause = 0.0

    @property
    def role(self) -> str:
        return "observer" if self.number == OBSERVER else "worker"

    def named(self) -> dict[str, int]:
        return {} if self.number == OBSERVER else {"worker": self.number}

    def ended(self, now: float) -> float:
        """Its worker is gone; returns the pause before the next one."""
        self.pid = 0
        pause = 0.0 if now - self.started_at >= FORGIVEN_AFTER_SECONDS else self.pause
        self.pause = min(max(pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        self.start_at = now + pause
        return pause


class Supervisor:
    """`work` is what a worker process does until it ends. With `observe` there is one process more, which does that."""

    def __init__(
        self, workers: int, grace: float, work: Callable[[int], None], observe: Callable[[], None] | None = None
    ) -> None:
        self._slots = [Slot(number) for number in range(1, workers + 1)]
        if observe is not None:
            self._slots.append(Slot(OBSERVER))
        self._grace = grace
        self._work = work
        self._observe = observe

    def run(self) -> int:
        """The exit status, after SIGTERM or SIGINT."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while True:
            self._start_due()
            received = signal.sigtimedwait(_SIGNALS, self._seconds_until_due())
            self._reap()
            if received is not None and received.si_signo != signal.SIGCHLD:
                return self._stop()

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if not slot.pid and slot.start_at <= now:
                slot.started_at = now
                slot.pid = self._fork(slot.number)

    def _seconds_until_due(self) -> float:
        now = time.monotonic()
        # A child that ended just before the wait has left its signal pending, so an hour misses nothing.
        return max(0.0, min((slot.start_at - now for slot in self._slots if not slot.pid), default=3600.0))

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.pid:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
                if pid:
                    pause = slot.ended(time.monotonic())
                    log.error(
                        f"{slot.role} ended by itself",
                        **slot.named(),
                        pid=pid,
                        status=os.waitstatus_to_exitcode(status),
                        restart_in=round(pause, 1),
                    )

    def _fork(self, number: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == parent:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                if number == OBSERVER:
                    assert self._observe is not None
                    self._observe()
                else:
                    self._work(number)
                status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _stop(self) -> int:
        """The observer last: it shows how the others drain."""
        workers = [slot for slot in self._slots if slot.number != OBSERVER]
        observers = [slot for slot in self._slots if slot.number == OBSERVER]
        return self._end(workers, self._grace + STOP_SECONDS) | self._end(observers, STOP_SECONDS)

    def _end(self, slots: list[Slot], seconds: float) -> int:
        for slot in slots:
            if slot.pid:
                os.kill(slot.pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        status = 0
        while any(slot.pid for slot in slots):
            signal.sigtimedwait(_SIGNALS, max(0.0, deadline - time.monotonic()))
            late = time.monotonic() >= deadline
            for slot in slots:
                if slot.pid and late:
                    log.error(f"{slot.role} did not stop in time and is killed", **slot.named(), pid=slot.pid)
                    os.kill(slot.pid, signal.SIGKILL)
                    status = 1
                if slot.pid and os.waitpid(slot.pid, 0 if late else os.WNOHANG)[0]:
                    slot.pid = 0
        return status


def supervise(settings: Settings) -> int:
    """The exit status. Raises OSError when the address cannot be listened on."""
    address = reserve(settings.host, settings.port)
    host, port = address.getsockname()[:2]
    streams = StreamAddresses(settings.streams, reserve)
    if settings.streams:
        log.info("TCP is proxied", listen=str(streams))
    listeners = observer_listeners(settings)
    pages = {name: _where(listener) for name, listener in listeners.by_name() if listener is not None}
    log.info("data plane is starting", listen=f"{host}:{port}", workers=settings.workers, pid=os.getpid(), **pages)

    # Where the control API really is, for the links to traces.
    control = None if listeners.control is None else listeners.control.getsockname()[:2]
    reached = replace(settings, control=control)
    if settings.trace_key is not None and control is None:
        log.warning("no request is traced: traces are shown by the control API, which is off (--control)")

    def work(number: int) -> None:
        # A socket for each worker: the kernel spreads the connections, and a busy worker's queue is its own.
        listener = listening_socket(host, port)
        address.close()
        stream_listeners = streams.open()
        listeners.close()
        run(reached, listener, number, stream_listeners)

    def observe() -> None:
        address.close()
        streams.close()
        observer.run(state_directory(settings.store), listeners)

    with address, streams:
        status = Supervisor(settings.workers, settings.grace, work, observe if listeners.any() else None).run()
    # A worker's crash loses nothing; the end of all of them does. Those of another data plane of this host may still use it.
    with contextlib.suppress(HostStateError):
        discard(state_directory(settings.store))
    return status


def observer_listeners(settings: Settings) -> Listeners:
    """An address that cannot be had costs the operator a page, and clients nothing: it is said, and the gateway goes on."""

    def listener(option: str, wanted: Address | None) -> socket.socket | None:
        if wanted is None:
            return None
        try:
            return _listening(*wanted)
        except OSError as error:
            reason = error.strerror or str(error)
            log.error(f"cannot listen on {shown(wanted)} (--{option}): {reason}; going on without that page")
            return None

    return Listeners(listener("prometheus", settings.prometheus), listener("control", settings.control))


def _listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _where(listener: socket.socket) -> str:
    return shown(listener.getsockname()[:2])


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds the address without listening; raises OSError when somebody else listens there.

    Found out by binding without SO_REUSEPORT first: with it, two gateways of one user would share the port unnoticed.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
    reserved = socket.socket(family, kind, protocol)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(where)
    return reserved
