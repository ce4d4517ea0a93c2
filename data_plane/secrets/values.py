"""What the secrets of the configuration are: sealed ones opened, references looked up.

The law: a look-up never waits. What a manager was asked for is known or not yet; `settle` fetches what is not, `renewed` asks
again for what is old, and whoever holds the configuration is told which references to read again. A manager that fails takes
nothing away: the last value stays, and a problem says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data_plane.secrets.vault import Fetch, Vault, VaultError
from shared.keys import ResourceKey, resource_key
from shared.schema.document import DocumentError, decode, encode
from shared.schema.secret import VaultSpec
from shared.secrets.keyring import MARK, Keyring
from shared.secrets.places import map_references, opened
from shared.secrets.references import IN_JSON, Managed, Variable, parse_reference

# APISIX keeps what a manager said for so long.
TTL_SECONDS = 300.0
# After a failure: at first, and at most.
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
# So long a change of the configuration waits for a manager that it names for the first time.
PATIENCE_SECONDS = 1.0

# The id of a manager, and a path there.
Place = tuple[str, str]


@dataclass(slots=True)
class _Secret:
    """`due` is when it is asked for, in seconds of the clock."""

    due: float
    members: dict[str, Any] | None = None
    error: str = ""
    failures: int = 0
    named_by: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Read:
    """A stored value as it is meant; `references` are those in it, `problem` is what is wrong although there is a value."""

    data: bytes
    references: frozenset[str] = frozenset()
    problem: str = ""


class Values:
    """`environment` is where `$env://` looks."""

    def __init__(
        self,
        keyring: Keyring,
        environment: Mapping[str, str] | None = None,
        fetch: Fetch | None = None,
        ttl: float = TTL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keyring = keyring
        self._environment = os.environ if environment is None else environment
        self._fetch = fetch or Vault().fetch
        self._ttl = ttl
        self._clock = clock
        self._managers: dict[str, VaultSpec] = {}
        self._secrets: dict[Place, _Secret] = {}
        self._new = asyncio.Event()

    def read(self, key: ResourceKey, value: bytes) -> Read:
        """Raises ValueError for what cannot be opened or is not known."""
        if MARK in value:
            value = opened(self._keyring, resource_key(*key), value)
        if not IN_JSON.search(value):
            return Read(value)
        document = decode(value)
        if not isinstance(document, dict):
            return Read(value)
        found: dict[str, None] = {}
        stale: list[str] = []
        missing: list[str] = []

        def look_up(text: str) -> str:
            found[text] = None
            try:
                value, problem = self._look_up(text)
            except ValueError as error:
                missing.append(str(error))
                return text
            if problem:
                stale.append(problem)
            return value

        meant = map_references(key.kind, document, look_up)
        if missing:
            raise UnknownError("; ".join(dict.fromkeys(missing)), frozenset(found))
        return Read(encode(meant), frozenset(found), "; ".join(dict.fromkeys(stale)))

    def manage(self, manager: str, spec: VaultSpec | None) -> None:
        """What is known of a manager; None: it is gone. What it was asked for is asked for again."""
        if self._managers.get(manager) == spec:
            return
        if spec is None:
            self._managers.pop(manager, None)
        else:
            self._managers[manager] = spec
        for place, secret in self._secrets.items():
            if place[0] == manager:
                secret.due, secret.failures = self._clock(), 0
                self._new.set()

    async def settle(self) -> set[str]:
        """Fetches what nobody has asked for before, for a moment at most; the references that mean something else now."""
        asked = [place for place, secret in self._secrets.items() if secret.members is None and not secret.failures]
        return await self._ask(asked, PATIENCE_SECONDS) if asked else set()

    async def renewed(self) -> set[str]:
        """Waits until there is something to read again; the references that it is."""
        while True:
            now = self._clock()
            due = [place for place, secret in self._secrets.items() if secret.due <= now]
            if due:
                changed = await self._ask(due, None)
                if changed:
                    return changed
                continue
            self._new.clear()
            soonest = min((secret.due for secret in self._secrets.values()), default=now + self._ttl)
            try:
                async with asyncio.timeout(max(soonest - now, 0)):
                    await self._new.wait()
            except TimeoutError:
                continue

    def forget(self, references: set[str]) -> None:
        """Nothing else is named any more."""
        for place in [place for place, secret in self._secrets.items() if not secret.named_by & references]:
            del self._secrets[place]

    def _look_up(self, text: str) -> tuple[str, str]:
        """The value, and what is wrong with it. Raises ValueError."""
        reference = parse_reference(text)
        if isinstance(reference, Variable):
            return self._variable(reference, text), ""
        place = (reference.manager, reference.path)
        secret = self._secrets.get(place)
        if secret is None:
            # `settle` goes first.
            secret = self._secrets[place] = _Secret(self._clock() + PATIENCE_SECONDS)
            self._new.set()
        secret.named_by.add(text)
        if secret.members is None:
            raise ValueError(f"{text}: {secret.error or 'is not known yet'}")
        return _member(secret.members, reference, text), secret.error and f"{text}: {secret.error}; the last value stays"

    def _variable(self, reference: Variable, text: str) -> str:
        value = self._environment.get(reference.name)
        if value is None:
            raise ValueError(f"{text}: the data plane has no variable {reference.name}")
        if reference.member is None:
            return value
        try:
            members = decode(value.encode("utf-8", "surrogateescape"))
        except DocumentError:
            members = None
        if not isinstance(members, dict) or reference.member not in members:
            raise ValueError(f"{text}: the variable {reference.name} is no JSON object with a member {reference.member}")
        return _text(members[reference.member])

    async def _ask(self, places: list[Place], patience: float | None) -> set[str]:
        """Those that take longer go on being unknown; they are asked for again at once."""
        tasks = [asyncio.create_task(self._one(place), name=f"secret {'/'.join(place)}") for place in places]
        try:
            done, _ = await asyncio.wait(tasks, timeout=patience)
        finally:
            for task in tasks:
                task.cancel()
        return {reference for task in done for reference in task.result()}

    async def _one(self, place: Place) -> set[str]:
        secret = self._secrets.get(place)
        if secret is None:
            return set()
        before = (secret.members, secret.error)
        manager = self._managers.get(place[0])
        try:
            if manager is None:
                raise VaultError(f"there is no secret manager {place[0]}")
            secret.members = await self._fetch(manager, place[1])
        except VaultError as error:
            secret.error = str(error)
            secret.failures += 1
            secret.due = self._clock() + min(FIRST_RETRY_SECONDS * 2 ** (secret.failures - 1), LAST_RETRY_SECONDS)
        else:
            secret.error, secret.failures = "", 0
            # Not all that was read at the start is read again at the same moment.
            secret.due = self._clock() + self._ttl * random.uniform(0.9, 1)
        return set(secret.named_by) if (secret.members, secret.error) != before else set()


class UnknownError(ValueError):
    """Of `references` not all are known."""

    def __init__(self, text: str, references: frozenset[str]) -> None:
        super().__init__(text)
        self.references = references


def _member(members: Mapping[str, Any], reference: Managed, text: str) -> str:
    if reference.member not in members:
        raise ValueError(f"{text}: the secret has no member {reference.member}")
    return _text(members[reference.member])


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
