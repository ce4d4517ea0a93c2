"""The modules that a plugin has had, so that it can go back to one of them.

The law: a digest is one version of its plugin, with the number that it got first; the list is in the order in which versions
were last in service, the one in service at its end. It changes in the transaction that changes the plugin, and a version's
bytes stay in the store as long as it is in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from control_plane.admin.checks import Plan
from control_plane.admin.draft import View
from control_plane.errors import BadRequest
from shared.keys import VERSIONS_PREFIX, resource_key, versions_key
from shared.schema.document import DocumentError, decode, encode
from shared.store.contract import ConfigStore, Delete, Entry, Expect, Put, StoreError

# Versions kept of each plugin, the one in service among them: at most so many times 32 MiB in the store.
MOST_VERSIONS = 10


@dataclass(frozen=True, slots=True)
class Version:
    """`module` is what the plugin said about where its bytes are; times are Unix seconds."""

    version: int
    sha256: str
    module: dict[str, Any]
    create_time: int
    active_time: int


@dataclass(frozen=True, slots=True)
class Versions:
    store: View
    clock: Callable[[], float]

    async def of(self, plugin: str) -> tuple[Version, ...]:
        entry = await self.store.get(versions_key(plugin))
        return () if entry is None else _versions(entry)[1]

    async def before_write(self, plugin: str, before: object, after: object) -> Plan:
        """`before` and `after` are the plugin's `module`, as stored."""
        if not isinstance(after, dict) or "sha256" not in after:
            return Plan()
        key = versions_key(plugin)
        entry = await self.store.get(key)
        last, known = (0, ()) if entry is None else _versions(entry)
        wanted = [module for module in (before, after) if isinstance(module, dict) and "sha256" in module]
        if known and known[-1].sha256 == after["sha256"]:
            return Plan()
        versions = known
        for module in wanted:
            last, versions = _activated(last, versions, module, int(self.clock()))
        value = encode({"last": last, "versions": [asdict(version) for version in versions[-MOST_VERSIONS:]]})
        return Plan((Expect(key, entry.mod_revision if entry else 0),), (Put(key, value),))

    async def before_delete(self, plugin: str) -> Plan:
        return Plan(operations=(Delete(versions_key(plugin)),))


async def kept_digests(store: ConfigStore) -> set[str]:
    """Of all versions of all plugins. What an expired plugin left behind is removed."""
    found: set[str] = set()
    for entry in (await store.list(VERSIONS_PREFIX)).entries:
        plugin = resource_key("wasm_plugins", entry.key.removeprefix(VERSIONS_PREFIX))
        gone = (Expect(plugin, 0), Expect(entry.key, entry.mod_revision))
        if await store.get(plugin) is None and (await store.transaction(gone, (Delete(entry.key),))).committed:
            continue
        found |= {version.sha256 for version in _versions(entry)[1]}
    return found


def choose(versions: Iterable[Version], current: str | None, *, number: int | None, sha256: str | None) -> Version:
    """The version that is meant; without a word about it the one that was in service before `current`. Raises BadRequest."""
    kept = list(versions)
    if number is None and sha256 is None:
        before = [version for version in kept if version.sha256 != current]
        if not before:
            raise BadRequest("there is no version before this one to go back to")
        return before[-1]
    for version in kept:
        if number in (None, version.version) and sha256 in (None, version.sha256):
            return version
    meant = [f"version {number}"] * (number is not None) + [f"sha256 {sha256}"] * (sha256 is not None)
    known = ", ".join(str(version.version) for version in kept) or "none"
    raise BadRequest(f"the plugin has no {' with '.join(meant)}; kept versions: {known}")


def _activated(last: int, versions: tuple[Version, ...], module: dict[str, Any], now: int) -> tuple[int, tuple[Version, ...]]:
    """The module's version at the end of the list: its own of earlier, or a new one."""
    others = tuple(version for version in versions if version.sha256 != module["sha256"])
    earlier = next((version for version in versions if version.sha256 == module["sha256"]), None)
    if earlier is not None and versions[-1] is earlier:
        return last, versions
    if earlier is not None:
        return last, (*others, replace(earlier, active_time=now))
    return last + 1, (*others, Version(last + 1, module["sha256"], module, now, now))


def _versions(entry: Entry) -> tuple[int, tuple[Version, ...]]:
    try:
        document = decode(entry.value)
        return int(document["last"]), tuple(Version(**version) for version in document["versions"])
    except (DocumentError, TypeError, KeyError, ValueError) as error:
        raise StoreError(f"the value of {entry.key} is not what Waspgate writes there: {error}") from error
