"""A configuration store that keeps secrets encrypted, in front of one that does not know of them.

The law: what is written through it lies sealed behind it, and what is read through it is in clear; what cannot be opened comes
out as it is, so that it is seen and can be replaced. What no resource is passes untouched.

It is the control plane's. A worker opens values where it reads them (data_plane/config/tables.py), one at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Self

from shared.keys import BATCH_PREFIX, HISTORY_PREFIX, parse_resource_key
from shared.schema.document import DocumentError, decode, encode
from shared.secrets.keyring import MARK, Keyring, SealError
from shared.secrets.places import opened, sealed
from shared.store.contract import Batch, ConfigStore, Delete, Entry, Event, Expect, Listing, Put, TxnResult

# What is no resource but has some inside.
SEALED_WHOLE = (HISTORY_PREFIX, BATCH_PREFIX)


class SealedStore:
    """Writing raises NoKeysError when there is a secret in a value and no key."""

    def __init__(self, store: ConfigStore, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    async def revision(self) -> int:
        return await self._store.revision()

    async def get(self, key: str) -> Entry | None:
        entry = await self._store.get(key)
        return None if entry is None else self._opened(entry)

    async def list(self, prefix: str) -> Listing:
        listing = await self._store.list(prefix)
        return Listing(listing.revision, tuple(map(self._opened, listing.entries)))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return await self._store.put(key, seal_value(self._keyring, key, value), lease=lease)

    async def delete(self, key: str) -> bool:
        return await self._store.delete(key)

    async def transaction(self, expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> TxnResult:
        return await self._store.transaction(expect, [self._sealed_operation(operation) for operation in operations])

    async def grant_lease(self, ttl_seconds: int) -> int:
        return await self._store.grant_lease(ttl_seconds)

    async def keep_alive(self, lease: int) -> bool:
        return await self._store.keep_alive(lease)

    async def revoke_lease(self, lease: int) -> None:
        await self._store.revoke_lease(lease)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]:
        async for batch in self._store.watch(prefix, from_revision):
            yield Batch(batch.revision, tuple(map(self._opened_event, batch.events)))

    def check(self, operations: Sequence[Put | Delete]) -> None:
        """Whether all of them can be written. Raises NoKeysError."""
        for operation in operations:
            self._sealed_operation(operation)

    def _opened_event(self, event: Event) -> Event:
        return event if event.entry is None else replace(event, entry=self._opened(event.entry))

    def _opened(self, entry: Entry) -> Entry:
        if MARK not in entry.value:
            return entry
        try:
            return replace(entry, value=open_value(self._keyring, entry.key, entry.value))
        except (SealError, DocumentError):
            return entry

    def _sealed_operation(self, operation: Put | Delete) -> Put | Delete:
        if isinstance(operation, Delete):
            return operation
        return replace(operation, value=seal_value(self._keyring, operation.key, operation.value))


def open_value(keyring: Keyring, key: str, value: bytes) -> bytes:
    """What lies under a key of the store, in clear. Raises SealError."""
    if not key.startswith(SEALED_WHOLE):
        return opened(keyring, key, value)
    whole = decode(value) if value.startswith(MARK) else None
    return keyring.open(whole, key).encode() if isinstance(whole, str) else value


def seal_value(keyring: Keyring, key: str, value: bytes) -> bytes:
    """What shall lie under a key of the store. The history of an object is sealed whole: its versions may have had secrets
    in other places. Raises NoKeysError when there is a secret and no key."""
    if key.startswith(SEALED_WHOLE):
        return encode(keyring.seal(value.decode(), key)) if keyring else value
    place = parse_resource_key(key)
    if place is None:
        return value
    try:
        document = decode(value)
    except DocumentError:
        return value
    if not isinstance(document, dict):
        return value
    covered = sealed(keyring, place, document)
    return value if covered is document else encode(covered)


def check_writable(store: ConfigStore, operations: Sequence[Put | Delete]) -> None:
    """For whoever writes in steps and cannot turn back. Raises NoKeysError."""
    if isinstance(store, SealedStore):
        store.check(operations)
