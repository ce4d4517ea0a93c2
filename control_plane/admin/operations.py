"""What a writer asks for, and what came of it.

The law: an operation is one object's; what it shall become is said as a change of what it is, because that may be another thing
when a round is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from control_plane.errors import Mismatch
from shared.schema.resources import Resource
from shared.store.contract import Entry

# From the object as it stands (None: absent) to what it shall be, without bookkeeping.
Change = Callable[[dict[str, Any] | None], object]


@dataclass(frozen=True, slots=True)
class Match:
    """What the object must be: `revision` its modifiedIndex; `exists` whether it is there at all. None: whatever it is."""

    revision: int | None = None
    exists: bool | None = None

    def check(self, entry: Entry | None) -> None:
        """Raises Mismatch."""
        current = entry.mod_revision if entry else 0
        if self.revision is not None and self.revision != current:
            raise Mismatch(f"modifiedIndex {self.revision}", current)
        if self.exists is not None and self.exists != (entry is not None):
            raise Mismatch("that it exists" if self.exists else "that it does not exist", current)


ANY = Match()


@dataclass(frozen=True, slots=True)
class Options:
    """How a write is meant: `ttl` in seconds; without `dry_run` no plugin is asked; `simulate`: nothing is written;
    `skips_unchanged`: what stays as it is gets no new revision; `several`: a mistake is told with the number of its operation
    even when there is one only; `batches`: what one transaction cannot hold is made in several, and seen at once."""

    ttl: int | None = None
    dry_run: bool = True
    match: Match = ANY
    simulate: bool = False
    skips_unchanged: bool = False
    several: bool = False
    batches: bool = False


PLAIN = Options()


@dataclass(frozen=True, slots=True)
class Write:
    """`id` None: the object gets a new one."""

    resource: Resource
    id: str | None
    change: Change
    patching: bool = False
    match: Match = ANY


@dataclass(frozen=True, slots=True)
class Removal:
    """`force`: even when something uses it."""

    resource: Resource
    id: str
    force: bool = False
    match: Match = ANY


Operation = Write | Removal


@dataclass(frozen=True, slots=True)
class Outcome:
    """`before` and `value` are the object as stored before and after, None where it is not there; `entry` is that of before.
    `revision` is that of the write, 0 when nothing was written."""

    operation: Operation
    id: str
    key: str
    entry: Entry | None
    before: dict[str, Any] | None
    value: dict[str, Any] | None
    unchanged: bool = False
    revision: int = 0

    @property
    def created(self) -> bool:
        return self.entry is None

    @property
    def action(self) -> str:
        if self.unchanged:
            return "unchanged"
        if self.value is None:
            return "delete"
        return "create" if self.entry is None else "replace"


@dataclass(frozen=True, slots=True)
class Committed:
    outcomes: tuple[Outcome, ...]
    revision: int
