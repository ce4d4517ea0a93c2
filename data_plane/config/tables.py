"""What the store holds, as models: the raw tables under everything that is compiled.

The law: a value that does not parse changes nothing but its problem: the last version that did parse stays until a good
one or a deletion comes. An entry whose mod_revision is known is not parsed again.

A listing that belongs to another history (the store was wiped, or restored from a backup) deletes nothing: its entries
count, and what it lacks stays, marked as lost, because an accident of the store must not take the gateway's routes
away. Such a listing shows itself by a revision below the one already seen, or by an entry that an older revision should
have brought.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TypeVar

from data_plane.routing.steps import Steps
from data_plane.secrets.values import UnknownError, Values
from shared.keys import Kind, ResourceKey, parse_resource_key, resource_key
from shared.schema.common import Spec
from shared.schema.resources import parse_stored
from shared.schema.secret import SecretSpec, read_secret
from shared.secrets.keyring import Keyring
from shared.secrets.references import BEGINNING
from shared.store.contract import Entry, Event, Listing

S = TypeVar("S", bound=Spec)

LOST = "is gone from a store that was wiped or restored; the last version stays until the key is written or deleted"


class Tables:
    """`touched` collects the keys that may have a new value since `take_touched`. `values` says what secrets are."""

    __slots__ = ("_lost", "_mod_revisions", "_problems", "_referring", "_revision", "_specs", "_touched", "values")

    def __init__(self) -> None:
        self.values = Values(Keyring())
        self._referring: dict[ResourceKey, tuple[Entry, frozenset[str]]] = {}
        self._revision = 0
        self._specs: dict[ResourceKey, Spec] = {}
        self._mod_revisions: dict[ResourceKey, int] = {}
        self._problems: dict[ResourceKey, str] = {}
        self._lost: set[ResourceKey] = set()
        self._touched: set[ResourceKey] = set()

    def __len__(self) -> int:
        """How many keys are known, good or bad."""
        return len(self._mod_revisions)

    @property
    def revision(self) -> int:
        """What the tables stand at."""
        return self._revision

    @property
    def problems(self) -> Mapping[ResourceKey, str]:
        return self._problems

    def get(self, model: type[S], kind: Kind, resource_id: str) -> S | None:
        """The last version of a resource that parsed."""
        spec = self._specs.get(ResourceKey(kind, resource_id))
        return spec if isinstance(spec, model) else None

    def take_touched(self) -> set[ResourceKey]:
        touched, self._touched = self._touched, set()
        return touched

    def load(self, listing: Listing, dropped: list[object]) -> Steps[None]:
        """All entries as of the listing's revision. What is of no use afterwards goes to `dropped`."""
        entries: dict[ResourceKey, Entry] = {}
        another_history = listing.revision < self._revision
        for entry in listing.entries:
            yield
            key = parse_resource_key(entry.key)
            if key is not None:
                entries[key] = entry
                another_history = another_history or self._comes_late(key, entry)
        for key, entry in entries.items():
            yield
            if another_history or self._mod_revisions.get(key) != entry.mod_revision:
                self._put(key, entry)
        for key in [*self._mod_revisions]:
            yield
            if key in entries or key in self._lost:
                continue
            if another_history:
                self._lost.add(key)
                self._problems[key] = LOST
            else:
                self._delete(key)
        self._revision = listing.revision
        dropped += (entries, list(listing.entries))

    def apply(self, revision: int, events: Iterable[Event]) -> Steps[None]:
        """The next batch of a watch."""
        for event in events:
            yield
            key = parse_resource_key(event.key)
            if key is None:
                continue
            if event.entry is None:
                self._delete(key)
            else:
                self._put(key, event.entry)
        self._revision = revision

    def renew(self, references: Set[str]) -> Steps[None]:
        """Reads again what names one of them: they mean something else now, or something at last."""
        for key, (entry, named) in [*self._referring.items()]:
            yield
            if named & references:
                self._put(key, entry)
        self.values.forget({reference for _, named in self._referring.values() for reference in named})

    def _comes_late(self, key: ResourceKey, entry: Entry) -> bool:
        """An older revision should have brought it."""
        return entry.mod_revision <= self._revision and self._mod_revisions.get(key) != entry.mod_revision

    def _put(self, key: ResourceKey, entry: Entry) -> None:
        self._lost.discard(key)
        self._problems.pop(key, None)
        self._mod_revisions[key] = entry.mod_revision
        self._referring.pop(key, None)
        try:
            self._specs[key] = self._read(key, entry)
        except ValueError as error:
            self._problems[key] = str(error)
        else:
            self._touched.add(key)

    def _read(self, key: ResourceKey, entry: Entry) -> Spec:
        """Raises ValueError."""
        spec = parse_stored(key.kind, self._meant(key, entry) if BEGINNING in entry.value else entry.value)
        if isinstance(spec, SecretSpec):
            self.values.manage(key.id, read_secret(key.id, spec.document))
        return spec

    def _meant(self, key: ResourceKey, entry: Entry) -> bytes:
        """The value with its secrets in it. Raises ValueError."""
        try:
            read = self.values.read(key, entry.value)
        except UnknownError as error:
            self._referring[key] = (entry, error.references)
            raise
        if read.references:
            self._referring[key] = (entry, read.references)
        if read.problem:
            self._problems[key] = read.problem
        return read.data

    def _delete(self, key: ResourceKey) -> None:
        self._lost.discard(key)
        self._problems.pop(key, None)
        self._mod_revisions.pop(key, None)
        self._referring.pop(key, None)
        if key.kind == "secrets":
            self.values.manage(key.id, None)
        if self._specs.pop(key, None) is not None:
            self._touched.add(key)


def store_problems(problems: Mapping[ResourceKey, str]) -> dict[str, str]:
    """Problems under the keys that an operator knows them by."""
    return {resource_key(key.kind, key.id): text for key, text in problems.items()}
