"""Reading and writing the objects of all kinds, whatever the kind.

The law: what a verb means is said here, as a change of one object; how a change is made safe is the writer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from control_plane.admin.draft import Draft
from control_plane.admin.history import History, Past, choose, read_history
from control_plane.admin.listing import Item
from control_plane.admin.operations import (
    PLAIN,
    Change,
    Committed,
    Match,
    Operation,
    Options,
    Outcome,
    Removal,
    Write,
)
from control_plane.admin.stored import id_in_body, item_of, own_part, stored_object, without
from control_plane.admin.versions import Version, Versions
from control_plane.admin.writer import Writer
from control_plane.errors import BadRequest, KeyNotFound
from shared.keys import ResourceKey, kind_prefix, parse_resource_key, resource_key
from shared.schema.resources import TIMESTAMPS, Resource
from shared.store.contract import ConfigStore


@dataclass(frozen=True, slots=True)
class Resources:
    writer: Writer

    @property
    def store(self) -> ConfigStore:
        return self.writer.store

    async def list(self, resource: Resource, owner: str | None = None) -> list[Item]:
        """All of a kind; of one whose ids have two parts, those of the owner."""
        listing = await self.writer.store.list(kind_prefix(resource.kind))
        found = ((entry, parse_resource_key(entry.key)) for entry in listing.entries)
        ours = ((entry, key) for entry, key in found if key is not None and key.kind == resource.kind)
        return [item_of(entry) for entry, key in ours if owner is None or key.id.startswith(f"{owner}/")]

    async def get(self, resource: Resource, object_id: str) -> Item:
        """Raises KeyNotFound."""
        entry = await self.writer.store.get(resource_key(resource.kind, object_id))
        if entry is None:
            raise KeyNotFound
        return item_of(entry)

    async def put(self, resource: Resource, object_id: str, document: object, options: Options = PLAIN) -> Outcome:
        """Create or replace."""
        return await self._one(putting(resource, object_id, document, options.match), options)

    async def post(self, resource: Resource, document: object, options: Options = PLAIN) -> Outcome:
        """Create under a new id."""
        return await self._one(posting(resource, document), options)

    async def patch(self, resource: Resource, object_id: str, change: Change, options: Options = PLAIN) -> Outcome:
        """Change an object that exists; raises KeyNotFound."""
        return await self._one(patching(resource, object_id, change, options.match), options)

    async def delete(self, resource: Resource, object_id: str, *, force: bool, options: Options = PLAIN) -> Outcome:
        """Raises KeyNotFound, or BadRequest when the object is in use and not `force`."""
        return await self._one(Removal(resource, object_id, force, options.match), options)

    async def run(self, operations: Sequence[Operation], options: Options = PLAIN) -> Committed:
        """All or none. Raises Refused, or the error of a single operation."""
        return await self.writer.run(operations, options)

    async def set_module(self, resource: Resource, name: str, sha256: str, options: Options = PLAIN) -> Outcome:
        """Point a plugin at stored bytes; makes the plugin when it is not there."""
        module = {"sha256": sha256}
        return await self._one(
            Write(resource, name, lambda previous: {**(previous or {}), "module": module}, match=options.match), options
        )

    async def module_versions(self, name: str) -> tuple[Version, ...]:
        return await Versions(self.writer.store, self.writer.clock).of(name)

    async def history(self, resource: Resource, object_id: str) -> tuple[History, Past | None]:
        """What the object was, and what it is; raises KeyNotFound when it never was."""
        draft = Draft(self.writer.store)
        history, _ = await read_history(draft, ResourceKey(resource.kind, object_id))
        entry = await draft.get(resource_key(resource.kind, object_id))
        if entry is not None:
            return history, Past(entry.mod_revision, stored_object(entry))
        if not history.versions:
            raise KeyNotFound
        return history, None if history.deleted is None else Past(history.deleted, None)

    async def restore(self, resource: Resource, object_id: str, revision: int | None, options: Options = PLAIN) -> Outcome:
        """Make the object what it was at that revision, or before its last change."""
        history, present = await self.history(resource, object_id)
        value = choose(history.versions, present, revision).value or {}
        return await self._one(Write(resource, object_id, lambda _: own_part(value), match=options.match), options)

    async def _one(self, operation: Operation, options: Options) -> Outcome:
        committed = await self.writer.run((operation,), options)
        return replace(committed.outcomes[0], revision=committed.revision)


def putting(resource: Resource, object_id: str, document: object, match: Match) -> Write:
    _refuse_timestamps(document)
    _check_body_id(resource, object_id, document)
    return Write(resource, object_id, _replacing(resource, document), match=match)


def posting(resource: Resource, document: object) -> Write:
    _refuse_timestamps(document)
    if isinstance(document, dict) and "id" in document:
        raise BadRequest(f"wrong {resource.singular} id, do not need it")
    return Write(resource, None, lambda _previous: document)


def patching(resource: Resource, object_id: str, change: Change, match: Match) -> Write:
    def existing(previous: dict[str, Any] | None) -> object:
        if previous is None:
            raise KeyNotFound
        changed = change(previous)
        _refuse_timestamps(changed)
        _check_body_id(resource, object_id, changed)
        return _without_id(changed)

    return Write(resource, object_id, existing, patching=True, match=match)


def _replacing(resource: Resource, document: object) -> Change:
    """PUT: all is replaced, except that a plugin keeps its module when the document does not speak of one."""
    wanted = _without_id(document)

    def change(previous: dict[str, Any] | None) -> object:
        if resource.kind != "wasm_plugins" or not isinstance(wanted, dict) or "module" not in (previous or {}):
            return wanted
        return {"module": (previous or {})["module"], **wanted}

    return change


def _without_id(document: object) -> object:
    """Without what the Admin API writes; an id that is a property of the resource itself stays."""
    return without(document, ("id",)) if isinstance(document, dict) else document


def _refuse_timestamps(document: object) -> None:
    for name in TIMESTAMPS:
        if isinstance(document, dict) and name in document:
            # Two spaces, as APISIX writes it.
            raise BadRequest(f"the property is forbidden:  {name}")


def _check_body_id(resource: Resource, object_id: str, document: object) -> None:
    name = resource.id_property
    if (
        isinstance(document, dict)
        and name in document
        and str(document[name]) not in (object_id, id_in_body(resource, object_id))
    ):
        raise BadRequest(f"wrong {resource.singular} id" if name == "id" else f"wrong {name}")
