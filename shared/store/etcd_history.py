"""Which history a revision number belongs to.

The law: a revision means something only within one history. An etcd that was wiped counts from 1 again, may soon have
counted past what a reader knows, and shows the same cluster id when its members are the same. So the store carries a
random identity of its own beside the configuration, written by whoever lists first and may write.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aetcd import rpc

from shared.keys import CONFIG_PREFIX, STORE_IDENTITY
from shared.store.contract import Expect, Put
from shared.store.etcd_connection import Method
from shared.store.etcd_wire import Message, PermissionDenied, get_request, transaction_request
from shared.store.keyspace import encode_key

Call = Callable[[Method, Message], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class History:
    """`identity` is None where it could not be read or made."""

    cluster_id: int
    identity: bytes | None

    def continues(self, known: History) -> bool:
        """False when the store was wiped or replaced since `known`."""
        if self.cluster_id != known.cluster_id:
            return False
        return known.identity is None or self.identity == known.identity


async def read_history(read: Call) -> tuple[History, int]:
    """The history and its revision, as the cluster's majority has them."""
    try:
        reply = await read(lambda to: to.kv.Range, get_request(STORE_IDENTITY))
        identity = reply.kvs[0].value if reply.kvs else None
    except PermissionDenied:
        reply = await read(lambda to: to.kv.Range, get_request(CONFIG_PREFIX))
        identity = None
    return History(reply.header.cluster_id, identity), reply.header.revision


async def identify(read: Call, write: Call) -> History:
    """The history, marked with an identity when it has none."""
    history, _ = await read_history(read)
    if history.identity is not None:
        return history
    identity = secrets.token_hex(16).encode()
    request = transaction_request((Expect(STORE_IDENTITY, 0),), (Put(STORE_IDENTITY, identity),))
    # When another was first, its identity comes back in the same answer.
    request.failure.append(rpc.RequestOp(request_range=rpc.RangeRequest(key=encode_key(STORE_IDENTITY))))
    try:
        reply = await write(lambda to: to.kv.Txn, request)
    except PermissionDenied:
        return history
    if not reply.succeeded:
        identity = reply.responses[0].response_range.kvs[0].value
    return History(reply.header.cluster_id, identity)
