"""The contract of the configuration store: what both engines promise, in etcd's terms.

The law: a revision is a number that grows by one with every committed transaction; a reader that lists at revision R
and then watches from R + 1 sees every change exactly once and in order, or is told `Compacted` and must list again.
Keys are text, values are bytes. An engine that cannot reach its server raises `StoreUnavailable` and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


class StoreError(Exception):
    """Base of everything that an engine raises."""


class StoreUnavailable(StoreError):
    """The store cannot be reached now; the same call may succeed later."""


class StoreRefused(StoreUnavailable):
    """The store answers, but not this user, or not for this key."""


class Compacted(StoreError):
    """A watch asked for history that is gone: list again and watch from the list's revision + 1."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"history before revision {compact_revision} is compacted")
        self.compact_revision = compact_revision


class LeaseNotFound(StoreError):
    """A write named a lease that does not exist or has expired."""


class TooLarge(StoreError):
    """A value or transaction is over what the engine takes in one request."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as stored. `create_revision` and `mod_revision` are store revisions, `version` counts writes from 1."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int = 1
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries under a prefix, in key order, as they stood at `revision`."""

    revision: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `entry` is None for a deletion."""

    key: str
    revision: int
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Batch:
    """All events of one or more whole revisions up to `revision`; empty events mean progress only."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Expect:
    """A transaction's condition: the key's mod_revision is this (0: the key does not exist)."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True)
class TxnResult:
    """`committed` is False when a condition failed: then nothing was written."""

    committed: bool
    revision: int


class ConfigStore(Protocol):
    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def revision(self) -> int:
        """The store's revision now."""

    async def get(self, key: str) -> Entry | None: ...

    async def list(self, prefix: str) -> Listing: ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write unconditionally; returns the new revision."""

    async def delete(self, key: str) -> bool:
        """True when the key existed."""

    async def transaction(self, expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> TxnResult:
        """All operations in one revision when every condition holds, else none."""

    async def grant_lease(self, ttl_seconds: int) -> int: ...

    async def keep_alive(self, lease: int) -> bool:
        """False when the lease is gone."""

    async def revoke_lease(self, lease: int) -> None: ...

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]:
        """Changes under the prefix from that revision on, without end; raises Compacted. Survives lost connections."""
