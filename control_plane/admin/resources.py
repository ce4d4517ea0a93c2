"""Reading and writing the objects of all kinds, whatever the kind.

The law: every write is one compare-and-swap transaction over the object as it was read and everything that was checked
on the way, and is done again from the start when any of that changed meanwhile; so no writer overwrites what it has not
seen, and no reference is left dangling by a race.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from control_plane.admin.checks import Checks, Plan
from control_plane.admin.dry_run import DryRuns
from control_plane.admin.listing import Item
from control_plane.admin.modules import Modules
from control_plane.admin.versions import Versions
from control_plane.errors import AdminError, BadRequest, KeyNotFound
from shared.keys import generated_id, kind_prefix, parse_resource_key, resource_key
from shared.plugin.registry import REFUSED, registry
from shared.schema.document import DocumentError, decode, encode
from shared.schema.plugin_metadata import read_metadata
from shared.schema.resources import BOOKKEEPING, TIMESTAMPS, Resource, validate
from shared.schema.secret import read_secret
from shared.schema.wasm_plugin import WasmPluginSpec
from shared.store.contract import ConfigStore, Delete, Entry, Expect, Put

# With writers on several control planes each round has a winner; this many rounds lost in a row is a storm.
ATTEMPTS = 50
# Mean pause after a lost round, in seconds: about one round trip to a store.
PAUSE = 0.005

# From the object as it stands (None: absent) to what it shall be, without bookkeeping.
Change = Callable[[dict[str, Any] | None], object]


@dataclass(frozen=True, slots=True)
class Options:
    """How a write is meant: `ttl` in seconds; without `dry_run` no plugin is asked."""

    ttl: int | None = None
    dry_run: bool = True


PLAIN = Options()


@dataclass(frozen=True, slots=True)
class Written:
    key: str
    value: dict[str, Any]
    created: bool
    revision: int


class Locks:
    """One lock per key while anybody wants it: local writers queue instead of losing rounds to each other."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield


@dataclass(frozen=True, slots=True)
class Resources:
    store: ConfigStore
    modules: Modules
    checks: Checks
    dry_runs: DryRuns
    versions: Versions
    clock: Callable[[], float]
    locks: Locks = field(default_factory=Locks)

    async def list(self, resource: Resource, owner: str | None = None) -> list[Item]:
        """All of a kind; of one whose ids have two parts, those of the owner."""
        listing = await self.store.list(kind_prefix(resource.kind))
        found = ((entry, parse_resource_key(entry.key)) for entry in listing.entries)
        ours = ((entry, key) for entry, key in found if key is not None and key.kind == resource.kind)
        return [_item(entry) for entry, key in ours if owner is None or key.id.startswith(f"{owner}/")]

    async def get(self, resource: Resource, object_id: str) -> Item:
        """Raises KeyNotFound."""
        entry = await self.store.get(resource_key(resource.kind, object_id))
        if entry is None:
            raise KeyNotFound
        return _item(entry)

    async def put(self, resource: Resource, object_id: str, document: object, options: Options = PLAIN) -> Written:
        """Create or replace."""
        _refuse_timestamps(document)
        _check_body_id(resource, object_id, document)
        return await self._write(resource, object_id, _replacing(resource, document), options)

    async def post(self, resource: Resource, document: object, options: Options = PLAIN) -> Written:
        """Create under a new id."""
        _refuse_timestamps(document)
        if isinstance(document, dict) and "id" in document:
            raise BadRequest(f"wrong {resource.singular} id, do not need it")
        for _ in range(ATTEMPTS):
            object_id = generated_id(await self.store.revision() + 1)
            key = resource_key(resource.kind, object_id)
            async with self.locks.hold(key):
                written = await self._attempt(resource, object_id, lambda _previous: document, options, None)
            if written is not None:
                return written
        raise _lost()

    async def patch(self, resource: Resource, object_id: str, change: Change, options: Options = PLAIN) -> Written:
        """Change an object that exists; raises KeyNotFound."""

        def existing(previous: dict[str, Any] | None) -> object:
            if previous is None:
                raise KeyNotFound
            changed = change(previous)
            _refuse_timestamps(changed)
            _check_body_id(resource, object_id, changed)
            return _without_id(changed)

        return await self._write(resource, object_id, existing, options, patching=True)

    async def set_module(self, resource: Resource, name: str, sha256: str, options: Options = PLAIN) -> Written:
        """Point a plugin at stored bytes; makes the plugin when it is not there."""
        module = {"sha256": sha256}
        return await self._write(resource, name, lambda previous: {**(previous or {}), "module": module}, options)

    async def delete(self, resource: Resource, object_id: str, *, force: bool) -> int:
        """The revision of the deletion; raises KeyNotFound, or BadRequest when the object is in use and not `force`."""
        key = resource_key(resource.kind, object_id)
        async with self.locks.hold(key):
            for _ in range(ATTEMPTS):
                entry = await self.store.get(key)
                if entry is None:
                    raise KeyNotFound
                plan = Plan() if force else await self.checks.before_delete(resource, object_id)
                if resource.kind == "wasm_plugins":
                    plan += await self.versions.before_delete(object_id)
                expect = [Expect(key, entry.mod_revision), *plan.expect]
                result = await self.store.transaction(expect, [Delete(key), *plan.operations])
                if result.committed:
                    return result.revision
                await _pause()
        raise _lost()

    async def _write(
        self, resource: Resource, object_id: str, change: Change, options: Options, *, patching: bool = False
    ) -> Written:
        key = resource_key(resource.kind, object_id)
        async with self.locks.hold(key):
            for _ in range(ATTEMPTS):
                entry = await self.store.get(key)
                written = await self._attempt(resource, object_id, change, options, entry, patching=patching)
                if written is not None:
                    return written
                await _pause()
        raise _lost()

    async def _attempt(
        self,
        resource: Resource,
        object_id: str,
        change: Change,
        options: Options,
        entry: Entry | None,
        *,
        patching: bool = False,
    ) -> Written | None:
        """One round; None when something that it relied on changed."""
        stored = _stored_object(entry)
        previous = None if entry is None else _without(stored, BOOKKEEPING)
        document = await self._complete(resource, change(previous), previous)
        _check_name(resource, object_id, document)
        plan = await self.checks.before_write(resource, object_id, document, previous)
        if options.dry_run:
            # A PATCH answers for what it changes, everything else for the whole document.
            plan += await self.dry_runs.before_write(resource, document, previous if patching else None, object_id)
        if resource.kind == "wasm_plugins":
            plan += await self.versions.before_write(object_id, (previous or {}).get("module"), document.get("module"))
        value = {**document, "id": object_id, **self._timestamps(stored)}
        key = resource_key(resource.kind, object_id)
        expect = [Expect(key, entry.mod_revision if entry else 0), *plan.expect]
        lease = 0 if options.ttl is None else await self.store.grant_lease(options.ttl)
        result = await self.store.transaction(expect, [Put(key, encode(value), lease), *plan.operations])
        if result.committed:
            return Written(key, value, entry is None, result.revision)
        if lease:
            await self.store.revoke_lease(lease)
        return None

    async def _complete(self, resource: Resource, document: object, previous: dict[str, Any] | None) -> dict[str, Any]:
        """The document when it fits its model; a plugin's with its module pinned."""
        spec = validate(resource.model, document)
        assert isinstance(document, dict)
        if not isinstance(spec, WasmPluginSpec) or spec.module is None:
            return document
        before = previous or {}
        module_before = before.get("module")
        module = await self.modules.resolve(document["module"], module_before if isinstance(module_before, dict) else None)
        if module != module_before or document.get("limits") != before.get("limits"):
            await self.modules.check_memory(module["sha256"], spec.limits.memory_bytes)
        return {**document, "module": module}

    def _timestamps(self, stored: dict[str, Any]) -> dict[str, int]:
        now = int(self.clock())
        created = stored.get("create_time")
        return {"create_time": created if isinstance(created, int) else now, "update_time": now}


def _replacing(resource: Resource, document: object) -> Change:
    """PUT: all is replaced, except that a plugin keeps its module when the document does not speak of one."""
    wanted = _without_id(document)

    def change(previous: dict[str, Any] | None) -> object:
        if resource.kind != "wasm_plugins" or not isinstance(wanted, dict) or "module" not in (previous or {}):
            return wanted
        return {"module": (previous or {})["module"], **wanted}

    return change


def _item(entry: Entry) -> Item:
    try:
        value = decode(entry.value)
    except DocumentError:
        # Not ours, such as a placeholder of another tool: shown as it is, so that it can be found and deleted.
        value = entry.value.decode("utf-8", "replace")
    return Item(entry.key, value, entry.create_revision, entry.mod_revision)


def _stored_object(entry: Entry | None) -> dict[str, Any]:
    value = None if entry is None else _item(entry).value
    return value if isinstance(value, dict) else {}


def _without(document: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def _without_id(document: object) -> object:
    return _without(document, ("id",)) if isinstance(document, dict) else document


def _refuse_timestamps(document: object) -> None:
    for name in TIMESTAMPS:
        if isinstance(document, dict) and name in document:
            # Two spaces, as APISIX writes it.
            raise BadRequest(f"the property is forbidden:  {name}")


def _check_body_id(resource: Resource, object_id: str, document: object) -> None:
    if isinstance(document, dict) and "id" in document and str(document["id"]) != object_id:
        raise BadRequest(f"wrong {resource.singular} id")


def _check_name(resource: Resource, object_id: str, document: dict[str, Any]) -> None:
    """What may be written under a plugin's name. Raises BadRequest, SchemaError."""
    if resource.kind == "plugin_metadata":
        read_metadata(object_id, document)
    elif resource.kind == "secrets":
        read_secret(object_id, document)
    elif resource.kind == "wasm_plugins" and (object_id in REFUSED or registry().get(object_id) is not None):
        raise BadRequest(f"the name {object_id} is that of a native plugin: a Wasm plugin needs another one")


async def _pause() -> None:
    await asyncio.sleep(random.uniform(0, 2 * PAUSE))


def _lost() -> AdminError:
    return AdminError(503, {"error_msg": "value changed before overwritten"})
