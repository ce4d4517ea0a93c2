"""Writing: one or several objects in one transaction of the store.

The law: every write is one compare-and-swap transaction over the objects as they were read and everything that was checked
on the way, and is done again from the start when any of that changed meanwhile; so no writer overwrites what it has not
seen, and no reference is left dangling by a race. What is checked is what will be there when all operations are done.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from control_plane.admin import history
from control_plane.admin.batches import Batches, fits
from control_plane.admin.checks import Checks, Plan
from control_plane.admin.completion import complete
from control_plane.admin.difference import same
from control_plane.admin.draft import Draft
from control_plane.admin.dry_run import DryRuns
from control_plane.admin.hidden import meant
from control_plane.admin.leases import Leases
from control_plane.admin.modules import Modules
from control_plane.admin.operations import Committed, Operation, Options, Outcome, Removal, Write
from control_plane.admin.refusal import Mistakes
from control_plane.admin.stored import id_in_body, own_part, stored_object
from control_plane.admin.versions import Versions
from control_plane.audit import note
from control_plane.errors import AdminError, KeyNotFound
from control_plane.sandbox.sandbox import Sandbox
from shared.keys import BATCH_KEY, ResourceKey, generated_id, guard_key, history_key, resource_key
from shared.schema.document import encode
from shared.store.contract import ConfigStore, Delete, Expect, LeaseNotFound, Put
from shared.store.patience import patience

# With writers on several control planes each round has a winner; this many rounds lost in a row is a storm.
ATTEMPTS = 50
# Mean pause after a lost round, in seconds: about one round trip to a store.
PAUSE = 0.005
# For an operation's calls of the store, some six: one that answers, but takes seconds for each, is as good as away.
STORE_SECONDS = 5.0
NO_BOUND = float("inf")
# Whoever makes a batch is alone.
NO_BATCH = Expect(BATCH_KEY, 0)


class Locks:
    """One lock per key while anybody wants it: local writers queue instead of losing rounds to each other."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, keys: Iterable[str]) -> AsyncIterator[None]:
        """In one order for all, so that nobody waits for somebody who waits for him."""
        async with AsyncExitStack() as held:
            for key in sorted(set(keys)):
                lock = self._locks.get(key)
                if lock is None:
                    lock = self._locks[key] = asyncio.Lock()
                await held.enter_async_context(lock)
            yield


class Gathered:
    """Plans of one round; what several say counts once, as etcd takes no key twice in one transaction."""

    __slots__ = ("_expect", "_operations")

    def __init__(self) -> None:
        self._expect: dict[Expect, None] = {}
        self._operations: dict[str, Put | Delete] = {}

    def add(self, plan: Plan) -> None:
        """Where several write a key the last one counts: it has seen what those before it have planned."""
        self._expect.update(dict.fromkeys(plan.expect))
        self._operations.update({operation.key: operation for operation in plan.operations})

    @property
    def plan(self) -> Plan:
        return Plan(tuple(self._expect), tuple(self._operations.values()))


@dataclass(frozen=True, slots=True)
class Prepared:
    """`plan` is everything but the objects themselves."""

    outcomes: tuple[Outcome, ...]
    plan: Plan

    @property
    def changed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.unchanged)

    def transaction(self, lease: int = 0) -> tuple[list[Expect], list[Put | Delete]]:
        """`lease` ends what is written. An object that is rewritten needs no guard: its own revision tells who relied on it."""
        expect = [Expect(one.key, one.entry.mod_revision if one.entry else 0) for one in self.changed]
        operations: list[Put | Delete] = []
        for outcome in self.changed:
            key, value = outcome.key, outcome.value
            operations.append(Delete(key) if value is None else Put(key, encode(value), lease))
        known = {condition.key for condition in expect}
        written = {guard_key(one.operation.resource.kind, one.id) for one in self.changed if one.value is not None}
        # What goes with an object may be an operation's own object as well.
        written |= known
        expect += [condition for condition in self.plan.expect if condition.key not in known]
        return expect, [*operations, *(more for more in self.plan.operations if more.key not in written)]


@dataclass(frozen=True, slots=True)
class Made:
    """What a round has to do: operations, and what else to write with them."""

    operations: Sequence[Operation]
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True, slots=True)
class Writer:
    store: ConfigStore
    modules: Modules
    sandbox: Sandbox
    clock: Callable[[], float]
    leases: Leases
    batches: Batches
    locks: Locks = field(default_factory=Locks)

    async def run(self, operations: Sequence[Operation], options: Options) -> Committed:
        """All of them or none. Raises the error of a single operation, Refused for several."""

        async def made(_draft: Draft) -> Made:
            return Made(operations)

        async with self.locks.hold(map(_lock_name, operations)):
            return await self.run_made(made, options, STORE_SECONDS * len(operations))

    async def run_made(
        self, make: Callable[[Draft], Awaitable[Made]], options: Options, seconds: float = NO_BOUND
    ) -> Committed:
        """`make` is asked again when a round is lost; one round waits for the store no longer than this."""
        for _ in range(ATTEMPTS):
            with patience(seconds):
                draft = Draft(self.store)
                made = await make(draft)
                prepared = await self.prepare(draft, made.operations, options)
                if options.simulate or not (prepared.changed or made.plan.operations):
                    return Committed(prepared.outcomes, 0)
                revision = await self._commit(prepared, made.plan, options)
            if revision is not None:
                for outcome in prepared.changed:
                    note(outcome.operation.resource.kind, outcome.id, outcome.before, outcome.value)
                return Committed(prepared.outcomes, revision)
            await asyncio.sleep(random.uniform(0, 2 * PAUSE))
            await self.batches.wait()
        raise AdminError(503, {"error_msg": "value changed before overwritten"})

    async def prepare(self, draft: Draft, operations: Sequence[Operation], options: Options) -> Prepared:
        """One round of looking, without a word to the store."""
        single = len(operations) == 1 and not options.several
        mistakes = Mistakes()
        outcomes: list[Outcome] = []
        ids = _NewIds(await self.store.revision() + 1 if any(_is_new(operation) for operation in operations) else 0)
        for number, operation in enumerate(operations):
            with mistakes.of(number):
                outcomes.append(await self._drafted(draft, operation, ids, options))
        mistakes.check(single=single)
        gathered = Gathered()
        for number, outcome in enumerate(outcomes):
            with mistakes.of(number):
                gathered.add(await self._checked(draft, outcome, options))
        mistakes.check(single=single)
        changed = [one for one in outcomes if not one.unchanged]
        if len(changed) > 1:
            await draft.fetch(history_key(one.operation.resource.kind, one.id) for one in changed)
        lease = await self._history_lease(outcomes, options)
        for outcome in changed:
            key, gone = ResourceKey(outcome.operation.resource.kind, outcome.id), outcome.value is None
            gathered.add(await history.before_change(draft, key, outcome.entry, deletes=gone, lease=lease if gone else 0))
        return Prepared(tuple(outcomes), gathered.plan)

    async def _drafted(self, draft: Draft, operation: Operation, ids: _NewIds, options: Options) -> Outcome:
        resource = operation.resource
        object_id = ids.next() if operation.id is None else operation.id
        key = resource_key(resource.kind, object_id)
        if draft.is_planned(key):
            raise AdminError(400, {"error_msg": f"{key} is written by another operation already"})
        entry = await draft.stored(key)
        while operation.id is None and entry is not None:
            # Another writer has taken it since the revision was asked for.
            object_id = ids.next()
            key = resource_key(resource.kind, object_id)
            entry = await draft.stored(key)
        operation.match.check(entry)
        stored = stored_object(entry)
        previous = None if entry is None else own_part(stored)
        before = None if entry is None else stored
        if isinstance(operation, Removal):
            if entry is None:
                raise KeyNotFound
            draft.plan(key, None, entry)
            return Outcome(operation, object_id, key, entry, before, None)
        wanted = meant(resource.kind, object_id, _named(operation, object_id, previous), previous)
        document = await complete(self.modules, resource, object_id, wanted, previous)
        if options.skips_unchanged and entry is not None and same(document, previous):
            return Outcome(operation, object_id, key, entry, before, stored, unchanged=True)
        value = {**document, resource.id_property: id_in_body(resource, object_id), **self._timestamps(stored)}
        draft.plan(key, encode(value), entry)
        return Outcome(operation, object_id, key, entry, before, value)

    async def _checked(self, draft: Draft, outcome: Outcome, options: Options) -> Plan:
        operation, object_id = outcome.operation, outcome.id
        resource = operation.resource
        checks, versions = Checks(draft), Versions(draft, self.clock)
        if isinstance(operation, Removal):
            plan = await checks.before_delete(resource, object_id, force=operation.force)
            return plan + await versions.before_delete(object_id) if resource.kind == "wasm_plugins" else plan
        if outcome.unchanged or outcome.value is None:
            return Plan()
        document = own_part(outcome.value)
        previous = None if outcome.before is None else own_part(outcome.before)
        plan = await checks.before_write(resource, object_id, document, previous)
        if options.dry_run:
            # A PATCH answers for what it changes, everything else for the whole document.
            known = previous if operation.patching else None
            plan += await DryRuns(draft, self.modules, self.sandbox).before_write(resource, document, known, object_id)
        if resource.kind == "wasm_plugins":
            plan += await versions.before_write(object_id, (previous or {}).get("module"), document.get("module"))
        return plan

    async def _history_lease(self, outcomes: Iterable[Outcome], options: Options) -> int:
        if options.simulate or all(outcome.value is not None for outcome in outcomes):
            return 0
        return await self.leases.lasting(history.DELETED_SECONDS)

    async def _commit(self, prepared: Prepared, more: Plan, options: Options) -> int | None:
        """The revision; None when something that the round relied on has changed."""
        lease = 0 if options.ttl is None else await self.store.grant_lease(options.ttl)
        expect, operations = prepared.transaction(lease)
        expect, operations = [*expect, *more.expect, NO_BATCH], [*operations, *more.operations]
        try:
            if options.batches and not fits(expect, operations):
                return await self.batches.commit(expect, operations)
            result = await self.store.transaction(expect, operations)
        except LeaseNotFound:
            self.leases.forget()
            return None
        if result.committed:
            return result.revision
        if lease:
            await self.store.revoke_lease(lease)
        return None

    def _timestamps(self, stored: dict[str, Any]) -> dict[str, int]:
        now = int(self.clock())
        created = stored.get("create_time")
        return {"create_time": created if isinstance(created, int) else now, "update_time": now}


class _NewIds:
    """Ids that no other writer gives at this revision; several in one transaction are numbered."""

    __slots__ = ("_given", "_revision")

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._given = 0

    def next(self) -> str:
        self._given += 1
        base = generated_id(self._revision)
        return base if self._given == 1 else f"{base}-{self._given}"


def _named(operation: Write, object_id: str, previous: dict[str, Any] | None) -> object:
    """An id that is a property of the resource itself may be left to the path."""
    wanted, name = operation.change(previous), operation.resource.id_property
    if name == "id" or not isinstance(wanted, dict):
        return wanted
    return {name: object_id, **wanted}


def _is_new(operation: Operation) -> bool:
    return operation.id is None


def _lock_name(operation: Operation) -> str:
    kind = operation.resource.kind
    return f"new {kind}" if operation.id is None else resource_key(kind, operation.id)
