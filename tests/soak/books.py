"""What became of every request of the soak, by kind.

The law: a request fails, or it does not. A connection that breaks is excused only when something that breaks connections was
done just before, or when the clients themselves stood still for longer than anybody waits. A wrong answer is excused in one
case only: of a body that was being sent when its upstream went away, the gateway cannot know what has arrived, and has nothing
left to send again.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

# Enough to see what goes wrong.
FAILURES_SHOWN = 20
# Of the clients' process, on a busy machine: a worker that drains waits twice as long for those who may be asking.
STANDSTILL_SECONDS = 0.5
# What was done so shortly before a failure is told with it.
SHORTLY_SECONDS = 12.0
LOST_BODY = "upstream closed the connection"


@dataclass(slots=True)
class Kind:
    answered: int = 0
    excused: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)


class Books:
    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        self.failures: list[str] = []
        self.done: Counter[str] = Counter()
        self._excuse_until: dict[str, float] = {}
        self._did_at: dict[str, float] = {}
        self._beat = time.monotonic()

    def kind(self, name: str) -> Kind:
        return self.kinds.setdefault(name, Kind())

    def answered(self, name: str, began: float) -> None:
        kind = self.kind(name)
        kind.answered += 1
        kind.seconds.append(time.monotonic() - began)

    def did(self, what: str, excuses: str = "", seconds: float = 0.0) -> None:
        """`excuses` names the kinds (their beginning; `*` is all) whose connections may break because of it, and how long."""
        self.done[what] += 1
        self._did_at[what] = time.monotonic()
        if excuses:
            self._excuse_until[excuses] = time.monotonic() + seconds

    def beat(self) -> None:
        """Of the clients' loop, now and then."""
        now = time.monotonic()
        if now - self._beat > STANDSTILL_SECONDS:
            self.did("standstills", "*", STANDSTILL_SECONDS)
        self._beat = now

    def broke(self, name: str, error: BaseException | str) -> None:
        """The connection ended before the answer did."""
        now = time.monotonic()
        self.beat()
        if any(now < until for excused, until in self._excuse_until.items() if excused == "*" or name.startswith(excused)):
            self.kind(name).excused += 1
        else:
            self.wrong(name, repr(error))

    def wrong(self, name: str, what: str) -> None:
        if LOST_BODY in what and name.startswith("upload") and time.monotonic() < self._excuse_until.get(LOST_BODY, 0.0):
            self.kind(name).excused += 1
            return
        self.kind(name).failed += 1
        if len(self.failures) < FAILURES_SHOWN:
            now = time.monotonic()
            before = [f"{what} {now - at:.1f} s ago" for what, at in self._did_at.items() if now - at < SHORTLY_SECONDS]
            self.failures.append(f"{time.strftime('%H:%M:%S')} {name}: {what[:200]} ({', '.join(before)})")
