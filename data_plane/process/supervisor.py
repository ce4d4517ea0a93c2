"""The parent of the workers: starts them, restarts what crashed or does not answer, replaces them, stops all together.

The law: a single thread that waits for signals; it serves nothing, reads no configuration, and has imported what a worker needs
before it forks, so that a new worker serves within a fraction of a second. A worker does not outlive it. One that crashes is
replaced at once, one that keeps crashing after growing pauses. When all are to be replaced, the old ones stay until every new
one is ready, and for good when one of those fails.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable

import structlog

from data_plane.observe.pulse import Pulses
from data_plane.process.crew import Crew, Orders
from data_plane.process.slot import LAST_WORDS, Slot

log = structlog.get_logger(__name__)

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP}
_STOPS = {signal.SIGTERM, signal.SIGINT}
# Beyond a worker's own grace, before it is killed.
STOP_SECONDS = 5.0
# How often the pulses are felt, and how often while new workers are waited for.
LOOK_SECONDS = 1.0
RENEW_LOOK_SECONDS = 0.05
# A client waits so long for a worker that crashed; when it will take longer, others take its clients.
REST_FROM_SECONDS = 0.5
# New workers that are not ready by then (the store is away) leave the old ones to go on.
RENEW_SECONDS = 60.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Supervisor:
    """`renew` has the next crew's orders when SIGHUP comes, or raises ValueError or OSError; `renewed` hears how that ended:
    None, or what was wrong. `leave` is called before the workers are told to end."""

    def __init__(
        self,
        orders: Orders,
        renew: Callable[[], Orders],
        renewed: Callable[[str | None], None],
        leave: Callable[[], None],
        pulses: Pulses,
    ) -> None:
        self.pulses = pulses
        self._leave = leave
        self._crew = Crew(orders, self.pulses, replaces=False)
        self._next: Crew | None = None
        self._ready_by = 0.0
        self._asked_again = False
        self._leaving: list[Slot] = []
        self._renew = renew
        self._renewed = renewed
        self._looked_at = time.monotonic()

    def run(self) -> int:
        """The exit status, after SIGTERM or SIGINT."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while True:
            self._start_due()
            received = self._wait(self._seconds_until_due())
            self._turn_over()
            if received == signal.SIGHUP:
                self._begin_renewal()
            elif received in _STOPS:
                return self._stop()

    def _wait(self, seconds: float) -> int | None:
        """The next signal. A child that ended just before has left its signal pending."""
        received = signal.sigtimedwait(_SIGNALS, max(0.0, seconds))
        now = time.monotonic()
        self._reap(now)
        self._look(now)
        return None if received is None else received.si_signo

    def _crews(self) -> list[Crew]:
        return [self._crew] if self._next is None else [self._crew, self._next]

    def _living(self) -> list[Slot]:
        return [slot for crew in self._crews() for slot in crew.slots]

    # Starting.

    def _start_due(self) -> None:
        now = time.monotonic()
        for crew in self._crews():
            for slot in crew.slots:
                if not slot.pid and slot.start_at <= now:
                    if slot.rests:
                        slot.rests = False
                        crew.orders.wake()
                    slot.starting(now)
                    slot.pid = self._fork(crew, slot.number)

    def _seconds_until_due(self) -> float:
        look = LOOK_SECONDS if self._next is None else RENEW_LOOK_SECONDS
        now = time.monotonic()
        return min([look, *(slot.start_at - now for slot in self._living() if not slot.pid)])

    def _fork(self, crew: Crew, number: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == parent:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                faulthandler.register(LAST_WORDS)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                crew.run(number)
                status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    # Watching.

    def _reap(self, now: float) -> None:
        for crew in self._crews():
            for slot in crew.slots:
                status = _ended(slot)
                if status is not None:
                    self._ended_by_itself(crew, slot, status, now)
        for slot in [slot for slot in self._leaving if _ended(slot) is not None]:
            self._leaving.remove(slot)
            self.pulses.release(slot.pulse)

    def _ended_by_itself(self, crew: Crew, slot: Slot, status: int, now: float) -> None:
        pid, pause = slot.pid, slot.ended(now)
        log.error(f"{slot.role} ended by itself", **slot.named(), pid=pid, status=status, restart_in=round(pause, 1))
        # Where nobody else would take its clients they wait for it.
        if slot in crew.workers and pause >= REST_FROM_SECONDS and any(other.pid for other in crew.workers):
            slot.rests = True
            crew.orders.rest(slot.number)

    def _look(self, now: float) -> None:
        """Find who does not answer, and who was asked to end and has not."""
        if now - self._looked_at > 3 * LOOK_SECONDS:
            # This process itself did not run: nobody can be blamed.
            for slot in self._living():
                slot.heard_at = now
        self._looked_at = now
        for slot in self._living():
            if slot.pid and not slot.end_by:
                self._listen_to(slot, now)
        for slot in [*self._living(), *self._leaving]:
            if slot.pid and slot.end_by and slot.end_by <= now:
                log.error(f"{slot.role} did not stop in time and is killed", **slot.named(), pid=slot.pid)
                slot.end()
                # Not again: it is gone as soon as the kernel comes to it.
                slot.end_by = float("inf")

    def _listen_to(self, slot: Slot, now: float) -> None:
        limit = self._crew.orders.stuck_after
        silent = slot.silent_for(now)
        if limit and silent > limit:
            log.error(f"{slot.role} does not answer and is replaced", **slot.named(), pid=slot.pid, seconds=round(silent, 1))
            slot.abort(now)

    # Replacing.

    def _begin_renewal(self) -> None:
        if self._next is not None:
            self._asked_again = True
            return
        try:
            orders = self._renew()
        except (ValueError, OSError) as error:
            log.error("settings are not reloaded, the old ones stay", reason=str(error))
            self._renewed(str(error))
            return
        log.info("new workers are starting", workers=orders.workers)
        self._next = Crew(orders, self.pulses, replaces=True)
        self._ready_by = time.monotonic() + RENEW_SECONDS

    def _turn_over(self) -> None:
        following = self._next
        if following is None:
            return
        if following.is_ready():
            self._next = None
            old, self._crew = self._crew, following
            self._dismiss(old)
            log.info("new workers have taken over", workers=len(following.workers))
            self._renewed(None)
        elif following.has_crashed() or time.monotonic() > self._ready_by:
            self._next = None
            self._dismiss(following)
            reason = "one of them ended by itself" if following.has_crashed() else f"not ready within {RENEW_SECONDS:g} s"
            log.error("new workers are of no use, the old ones stay", reason=reason)
            self._renewed(f"the new workers are of no use: {reason}")
        else:
            return
        if self._asked_again:
            self._asked_again = False
            self._begin_renewal()

    def _dismiss(self, crew: Crew) -> None:
        by = time.monotonic() + crew.orders.grace + STOP_SECONDS
        for slot in crew.slots:
            if slot.pid:
                slot.ask_to_end(by)
                self._leaving.append(slot)
            else:
                self.pulses.release(slot.pulse)

    # The end.

    def _stop(self) -> int:
        """Whoever asks whether we are ready hears no first; the observer ends last: it shows how the others drain."""
        self.pulses.stop()
        orders = self._crew.orders
        if orders.drain_delay:
            log.info("stopping soon", seconds=orders.drain_delay)
            self._serve_on(orders.drain_delay)
        self._leave()
        workers = [*(slot for crew in self._crews() for slot in crew.workers), *self._leaving]
        observers = [slot for crew in self._crews() for slot in crew.observers]
        return _end(workers, orders.grace + STOP_SECONDS) | _end(observers, STOP_SECONDS)

    def _serve_on(self, seconds: float) -> None:
        """Until the time is over, or a second signal says that it is urgent."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            received = self._wait(min(left, LOOK_SECONDS))
            if received in _STOPS:
                return


def _ended(slot: Slot) -> int | None:
    """The exit status of its process, if that has ended."""
    if not slot.pid:
        return None
    pid, status = os.waitpid(slot.pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _end(slots: Iterable[Slot], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    living = [slot for slot in slots if slot.pid]
    for slot in living:
        slot.ask_to_end(deadline)
    while living:
        signal.sigtimedwait(_SIGNALS, max(0.0, deadline - time.monotonic()))
        if time.monotonic() >= deadline:
            for slot in living:
                log.error(f"{slot.role} did not stop in time and is killed", **slot.named(), pid=slot.pid)
                slot.end()
                os.waitpid(slot.pid, 0)
            return 1
        living = [slot for slot in living if _ended(slot) is None]
    return 0
