"""How an Admin API is guarded, in one piece.

The law: whoever makes the application says it; without a word each given text is an unrestricted key, and the process's log is
the audit log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from control_plane.audit import Write, to_log
from control_plane.auth.attempts import Attempts
from control_plane.auth.keys import AdminKey, Keys, unrestricted
from shared.networks import Network


@dataclass(frozen=True, slots=True)
class Guard:
    """`hosts` None: names are not checked; `allowed` empty: everybody may come; `trusted`: proxies that may be in front."""

    keys: Keys
    attempts: Attempts
    hosts: frozenset[str] | None = None
    trusted: tuple[Network, ...] = ()
    allowed: tuple[Network, ...] = ()
    audit: Write = field(default=to_log)

    @classmethod
    def of(cls, texts: Sequence[str], keys: Sequence[AdminKey] = (), clock: Callable[[], float] = time.monotonic) -> Guard:
        """Of unrestricted keys in clear, and of others."""
        if not all(texts):
            raise ValueError("an admin key is needed, and it may not be empty")
        return cls(Keys([*map(unrestricted, texts), *keys]), Attempts(clock))
