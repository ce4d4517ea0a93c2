"""Between the contract's terms and etcd's messages.

The law: nothing outside the etcd engine sees a protobuf message or a gRPC error, and every gRPC error becomes exactly
one of the contract's, by one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from aetcd import rpc

from shared.store.contract import (
    Compacted,
    Delete,
    Entry,
    Event,
    Expect,
    LeaseNotFound,
    Put,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    TooLarge,
)
from shared.store.keyspace import decode_key, encode_key, prefix_range

# A protobuf message, or a stub that takes and gives them: aetcd ships no types for either.
Message: TypeAlias = Any
Stub: TypeAlias = Any


class TokenRefused(StoreUnavailable):
    """The login must be repeated; nothing was done."""


class PermissionDenied(StoreRefused):
    """The user may not touch this key."""


# Everything else is StoreUnavailable: down, no leader, out of time, out of space, a wrong password.
_BY_TEXT: Final[tuple[tuple[str, type[StoreError]], ...]] = (
    ("invalid auth token", TokenRefused),
    ("revision of auth store is old", TokenRefused),
    ("permission denied", PermissionDenied),
    ("requested lease not found", LeaseNotFound),
    ("request is too large", TooLarge),
    ("too many operations in txn request", TooLarge),
    ("larger than max", TooLarge),
)


def contract_error(error: Message, endpoint: str) -> StoreError:
    details = str(error.details() or "").removeprefix("etcdserver: ")
    if "required revision has been compacted" in details:
        return Compacted(0)
    kind = next((kind for text, kind in _BY_TEXT if text in details), StoreUnavailable)
    return kind(f"etcd at {endpoint}: {details or error.code().name} ({error.code().name})")


def entry(pair: Message) -> Entry:
    return Entry(decode_key(pair.key), pair.value, pair.create_revision, pair.mod_revision, pair.version, pair.lease)


def event(change: Message) -> Event:
    # Of a deleted key etcd sends the name and the revision.
    kept = change.type == rpc.Event.PUT
    return Event(decode_key(change.kv.key), change.kv.mod_revision, entry(change.kv) if kept else None)


def get_request(key: str) -> Message:
    return rpc.RangeRequest(key=encode_key(key))


def page_request(prefix: str, after: bytes | None, limit: int, revision: int) -> Message:
    start, end = range_of(prefix)
    # The smallest key after K is K with a zero byte.
    first = start if after is None else after + b"\0"
    return rpc.RangeRequest(key=first, range_end=end, limit=limit, revision=revision)


def range_of(prefix: str) -> tuple[bytes, bytes]:
    """etcd writes "everything from here on" as an end of one zero byte, and takes no empty key."""
    start, end = prefix_range(prefix)
    return start or b"\0", b"\0" if end is None else end


def transaction_request(expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> Message:
    return rpc.TxnRequest(
        compare=[
            rpc.Compare(
                result=rpc.Compare.EQUAL,
                target=rpc.Compare.MOD,
                key=encode_key(condition.key),
                mod_revision=condition.mod_revision,
            )
            for condition in expect
        ],
        success=[_operation(operation) for operation in operations],
    )


def _operation(operation: Put | Delete) -> Message:
    key = encode_key(operation.key)
    if isinstance(operation, Delete):
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=operation.value, lease=operation.lease))
