"""What consumers and their credentials have to keep to: a credential is a consumer's, and no two say the same key to a plugin.

The law: who has a key is looked up and not searched for, so that the hundred-thousandth consumer costs what the first one
did. The store has a row for each of 65,536 buckets, by a digest of plugin and key: the names of those who have one of its
keys, but never a key. A writer expects its rows as it has read them, so two that write the same key at once see each other; a
name that has no key of the bucket any more is dropped by the next who writes the row. Of what was written past the Admin API
the rows know nothing: workers settle that (data_plane/config/consumer_index.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from control_plane.admin.draft import Draft
from control_plane.admin.plan import Plan
from control_plane.admin.stored import own_part
from control_plane.errors import AdminError, BadRequest
from shared.keys import Kind, ResourceKey, consumer_keys_key, guard_key, parse_resource_key, resource_key
from shared.schema.consumer import AuthPart, ConsumerSpec, CredentialSpec
from shared.schema.document import DocumentError, decode, encode
from shared.schema.errors import SchemaError
from shared.schema.resources import RESOURCES, validate
from shared.store.contract import Delete, Expect, Put

KINDS: tuple[Kind, ...] = ("consumers", "credentials")

# A plugin's name and a key that requests name the consumer by.
Claim = tuple[str, str]


async def before_write(draft: Draft, key: ResourceKey, document: object, *, is_new: bool) -> Plan:
    """Of a consumer or a credential. Raises BadRequest, AdminError 404."""
    plan = await _of_consumer(draft, key, is_new) if key.kind == "credentials" else Plan()
    for bucket, claims in _by_bucket(_claims(key.kind, document)).items():
        plan += await _claim(draft, bucket, claims, key)
    return plan


async def before_delete(draft: Draft, username: str) -> Plan:
    """A consumer's credentials go with it; one that is added meanwhile rewrites the guard."""
    guard = guard_key("consumers", username)
    entry = await draft.get(guard)
    credentials = await draft.list(resource_key("consumers", username) + "/")
    return Plan(
        (Expect(guard, entry.mod_revision if entry else 0),),
        tuple(Delete(credential.key) for credential in credentials.entries),
    )


async def _of_consumer(draft: Draft, key: ResourceKey, is_new: bool) -> Plan:
    username = key.id.partition("/")[0]
    consumer = resource_key("consumers", username)
    entry = await draft.get(consumer)
    if entry is None:
        raise AdminError(404, {"error_msg": "consumer not found"})
    if not is_new:
        return Plan()
    return Plan((Expect(consumer, entry.mod_revision),), (Put(guard_key("consumers", username), b"1"),))


async def _claim(draft: Draft, bucket: str, claims: set[Claim], own: ResourceKey) -> Plan:
    row = consumer_keys_key(bucket)
    entry = await draft.get(row)
    names = [] if entry is None else _names(entry.value)
    mine = resource_key(*own)
    living = []
    for name in names:
        other = None if name == mine else parse_resource_key(name)
        if other is None or other.kind not in KINDS:
            continue
        theirs = await _claims_of(draft, other)
        for plugin, _ in sorted(theirs & claims):
            raise BadRequest(f"duplicate key of plugin {plugin} found with {_shown(other)}")
        if bucket in _by_bucket(theirs):
            living.append(name)
    living = sorted({*living, mine})
    expect = (Expect(row, entry.mod_revision if entry else 0),)
    if living == names:
        return Plan(expect)
    draft.plan(row, encode(living), entry)
    return Plan(expect, (Put(row, encode(living)),))


def _shown(other: ResourceKey) -> str:
    if other.kind == "consumers":
        return f"consumer: {other.id}"
    username, _, credential_id = other.id.partition("/")
    return f"credential: {credential_id} of consumer: {username}"


async def _claims_of(draft: Draft, key: ResourceKey) -> set[Claim]:
    entry = await draft.get(resource_key(*key))
    if entry is None:
        return set()
    try:
        document = decode(entry.value)
    except DocumentError:
        return set()
    return _claims(key.kind, document)


def _claims(kind: Kind, document: object) -> set[Claim]:
    """What cannot be read claims nothing."""
    if not isinstance(document, dict):
        return set()
    try:
        spec = validate(RESOURCES[kind].model, own_part(document))
    except SchemaError:
        return set()
    parts: Iterable[Any] = spec.plugins.values() if isinstance(spec, ConsumerSpec | CredentialSpec) else ()
    return {(part.plugin.name, part.key) for part in parts if isinstance(part, AuthPart)}


def _by_bucket(claims: Iterable[Claim]) -> dict[str, set[Claim]]:
    buckets: dict[str, set[Claim]] = {}
    for plugin, key in claims:
        digest = sha256(f"{plugin}\0{key}".encode("utf-8", "surrogateescape")).hexdigest()
        buckets.setdefault(digest[:4], set()).add((plugin, key))
    return buckets


def _names(value: bytes) -> list[str]:
    try:
        names = decode(value)
    except DocumentError:
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
