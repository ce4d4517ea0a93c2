"""What objects have been: the versions before the present one, so that an object can go back to any of them.

The law: an object's history changes in the transaction that changes the object and in no other, so nobody writes it unseen. It
holds what was replaced, by the revision that had written it; what is there now is the object itself. The oldest versions go
when there are too many or they are too large; those of a deleted object go a month after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.admin.checks import Plan
from control_plane.admin.draft import View
from control_plane.errors import BadRequest
from shared.keys import ResourceKey, history_key
from shared.schema.document import DocumentError, decode, encode
from shared.store.contract import Entry, Expect, Put

# Versions kept beside the present one, and how many bytes all of them may take.
MOST_VERSIONS = 10
MOST_BYTES = 65_536
# How long the history of a deleted object is kept.
DELETED_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Past:
    """One version: `value` as stored, None while the object was not there; `revision` is that of the write which made it so."""

    revision: int
    value: dict[str, Any] | None

    def document(self) -> dict[str, Any]:
        return {"revision": self.revision, "value": self.value}


@dataclass(frozen=True, slots=True)
class History:
    """Oldest first. `deleted` is the revision of the deletion of an object that is no more."""

    versions: tuple[Past, ...] = ()
    deleted: int | None = None


def choose(versions: Sequence[Past], present: Past | None, revision: int | None) -> Past:
    """What the object was as of that revision; of None, before its last change. Raises BadRequest."""
    if revision is None:
        before = [version for version in versions if version.value is not None]
        if not before:
            raise BadRequest("there is no version before this one to go back to")
        return before[-1]
    known: tuple[Past, ...] = (*versions, *(() if present is None else (present,)))
    found = next((version for version in reversed(known) if version.revision <= revision), None)
    if found is not None and found.value is not None:
        return found
    kept = ", ".join(str(version.revision) for version in known if version.value is not None)
    why = "the object was not there, or what it was is not kept" if found is None else "the object was deleted"
    text = f"{why} as of revision {revision}"
    raise BadRequest(f"{text}: kept are revisions {kept}", errors=[{"path": "$.revision", "message": text}])


async def read_history(view: View, key: ResourceKey) -> tuple[History, Entry | None]:
    """And the entry that it was read from."""
    entry = await view.get(history_key(*key))
    return (History() if entry is None else _history(entry)), entry


async def before_change(view: View, key: ResourceKey, entry: Entry | None, *, deletes: bool, lease: int = 0) -> Plan:
    """`entry` is the object as it is; `lease` ends the history of what is deleted."""
    history, blob = await read_history(view, key)
    versions = history.versions
    if entry is not None:
        versions = (*versions, Past(entry.mod_revision, _object(entry.value)))
    elif blob is None:
        return Plan()
    elif history.deleted is not None:
        versions = (*versions, Past(history.deleted, None))
    name = history_key(*key)
    # Nobody writes the history of an object but with the object; of an object that is not there it must be said.
    expect = (Expect(name, blob.mod_revision if blob else 0),) if entry is None else ()
    document = {"deleted": deletes, "versions": [version.document() for version in _kept(versions)]}
    return Plan(expect, (Put(name, encode(document), lease),))


def _kept(versions: Sequence[Past]) -> list[Past]:
    kept: list[Past] = []
    size = 0
    for version in reversed(versions[-MOST_VERSIONS:]):
        size += len(encode(version.document()))
        if size > MOST_BYTES:
            break
        kept.append(version)
    return kept[::-1]


def _history(entry: Entry) -> History:
    try:
        document = decode(entry.value)
    except DocumentError:
        return History()
    versions = tuple(Past(version["revision"], version["value"]) for version in document["versions"])
    return History(versions, entry.mod_revision if document["deleted"] else None)


def _object(value: bytes) -> dict[str, Any] | None:
    try:
        document = decode(value)
    except DocumentError:
        return None
    return document if isinstance(document, dict) else None
