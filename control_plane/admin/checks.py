"""What must hold in the rest of the store before an object is written or deleted.

The law: a check answers with a `Plan`, the conditions under which its verdict stays true; committed in the same
transaction as the write, they close the gap between looking and acting. A write that adds a reference expects its target
unchanged and rewrites the target's guard; whoever deletes a target (or takes the module from a plugin) expects that guard
unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from control_plane.admin import consumers
from control_plane.admin.draft import Draft
from control_plane.admin.plan import Plan as Plan
from control_plane.admin.references import Target, first_user, plugin_names, targets, user_kinds
from control_plane.errors import BadRequest
from shared.keys import Kind, ResourceKey, guard_key, kind_prefix, parse_resource_key, resource_key
from shared.schema.document import DocumentError, decode
from shared.schema.resources import Resource
from shared.store.contract import Entry, Expect, Put


@dataclass(frozen=True, slots=True)
class Checks:
    store: Draft

    async def before_write(
        self, resource: Resource, object_id: str, document: dict[str, Any], previous: dict[str, Any] | None
    ) -> Plan:
        """Raises BadRequest."""
        plan = await self._references(resource, document, previous)
        if resource.kind == "global_rules":
            plan += await self._one_rule_per_plugin(object_id, document)
        if resource.kind == "wasm_plugins" and _has_module(previous) and not _has_module(document):
            plan += await self._no_user(resource, object_id, running=True)
        if resource.kind in consumers.KINDS:
            key = ResourceKey(resource.kind, object_id)
            plan += await consumers.before_write(self.store, key, document, is_new=previous is None)
        return plan

    async def before_delete(self, resource: Resource, object_id: str, *, force: bool = False) -> Plan:
        """`force`: also what is in use goes. Raises BadRequest."""
        if resource.kind == "consumers":
            return await consumers.before_delete(self.store, object_id)
        return Plan() if force or not user_kinds(resource.kind) else await self._no_user(resource, object_id, running=False)

    async def _references(self, resource: Resource, document: dict[str, Any], previous: dict[str, Any] | None) -> Plan:
        known = set(targets(resource, previous))
        plan = Plan()
        for target in dict.fromkeys(targets(resource, document)):
            key = resource_key(target.kind, target.id)
            entry = await self.store.get(key)
            _check_target(target, entry)
            if entry is not None and target not in known:
                guard = Put(guard_key(target.kind, target.id), b"1")
                plan += Plan((Expect(key, entry.mod_revision),), (guard,))
        return plan

    async def _no_user(self, resource: Resource, object_id: str, *, running: bool) -> Plan:
        """The guard is read before the users are: a reference that is added after this look changes it."""
        guard = guard_key(resource.kind, object_id)
        entry = await self.store.get(guard)
        for kind in user_kinds(resource.kind):
            stored = [(kind, user_id, document) async for user_id, document in self._naming(kind.kind, object_id.encode())]
            user = first_user(resource.kind, object_id, stored, running=running)
            if user is not None:
                raise BadRequest(user.needs_module if running else user.in_use)
        return Plan((Expect(guard, entry.mod_revision if entry else 0),))

    async def _one_rule_per_plugin(self, object_id: str, document: dict[str, Any]) -> Plan:
        """All writers of global rules expect and rewrite one guard, so that two new rules see each other."""
        guard = guard_key("global_rules")
        entry = await self.store.get(guard)
        wanted = plugin_names(document)
        async for rule_id, rule in self._naming("global_rules", b""):
            taken = plugin_names(rule) & wanted
            if taken and rule_id != object_id:
                raise BadRequest(f"plugin '{min(taken)}' already exists in global rule with id '{rule_id}'")
        return Plan((Expect(guard, entry.mod_revision if entry else 0),), (Put(guard, b"1"),))

    async def _naming(self, kind: Kind, text: bytes) -> AsyncIterator[tuple[str, object]]:
        """The (id, document) of a kind's objects that contain the text: decoding 10,000 others would take long."""
        listing = await self.store.list(kind_prefix(kind))
        for entry in listing.entries:
            key = parse_resource_key(entry.key)
            if key is not None and key.kind == kind and text in entry.value:
                yield key.id, _document(entry.value)


def _check_target(target: Target, entry: Entry | None) -> None:
    if entry is None:
        raise BadRequest(target.missing)
    if target.kind == "wasm_plugins" and target.runs and not _has_module(_document(entry.value)):
        path = f"/apisix/admin/wasm_plugins/{target.id}/module"
        raise BadRequest(f"plugin [{target.id}] has no module yet: upload one with PUT {path}")


def _has_module(document: object) -> bool:
    module = document.get("module") if isinstance(document, dict) else None
    return isinstance(module, dict) and isinstance(module.get("sha256"), str)


def _document(value: bytes) -> object:
    try:
        return decode(value)
    except DocumentError:
        return None
