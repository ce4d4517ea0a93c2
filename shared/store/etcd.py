"""The cluster engine: etcd v3.

The law: opening connects to nothing, so a process may start while etcd is down; every call is bounded; a watch lasts,
whatever happens to connections and endpoints, and ends by Compacted alone.

The messages and stubs are aetcd's; its client serves one endpoint without TLS and forgets its watches when a connection
breaks, so connections and watches are our own.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, Self

from aetcd import rpc

from shared.keys import CONFIG_PREFIX
from shared.store.contract import (
    Batch,
    Compacted,
    Delete,
    Entry,
    Expect,
    LeaseNotFound,
    Listing,
    Put,
    StoreError,
    StoreUnavailable,
    TxnResult,
)
from shared.store.etcd_connection import Connection, EtcdTarget
from shared.store.etcd_endpoints import Endpoints
from shared.store.etcd_history import History, identify
from shared.store.etcd_stream import follow
from shared.store.etcd_watch import WatchLost, WatchMachine
from shared.store.etcd_wire import Message, Stub, entry, get_request, page_request, transaction_request
from shared.store.keyspace import encode_key
from shared.store.request import check_transaction

# Entries per page of a list.
PAGE: Final = 500
# How often a list is begun again because its revision was compacted between two pages.
LIST_ATTEMPTS: Final = 3
BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_LAST_SECONDS: Final = 2.0

_log = logging.getLogger("waspgate.store")


class EtcdStore:
    """`ConfigStore` over an etcd cluster. Use it as a context manager, on one event loop."""

    def __init__(self, target: EtcdTarget) -> None:
        self._target = target
        self._endpoints: Endpoints | None = None
        self._history: History | None = None
        self._watching: set[Connection] = set()

    def __repr__(self) -> str:
        return f"<EtcdStore {','.join(self._target.endpoints)}>"

    async def __aenter__(self) -> Self:
        self._endpoints = Endpoints(self._target)
        return self

    async def __aexit__(self, *exc: object) -> None:
        endpoints, self._endpoints = self._endpoints, None
        for connection in tuple(self._watching):
            await connection.close()
        if endpoints is not None:
            await endpoints.close()

    async def revision(self) -> int:
        reply = await self._open().read(lambda to: to.kv.Range, get_request(CONFIG_PREFIX))
        revision: int = reply.header.revision
        return revision

    async def get(self, key: str) -> Entry | None:
        reply = await self._open().read(lambda to: to.kv.Range, get_request(key))
        return entry(reply.kvs[0]) if reply.kvs else None

    async def list(self, prefix: str) -> Listing:
        if self._history is None:
            self._history = await identify(self._open().read, self._open().write)
        for _ in range(LIST_ATTEMPTS):
            try:
                return await self._pages(prefix)
            except Compacted:
                continue
        raise StoreUnavailable("etcd compacts faster than a list of it can be read")

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.transaction((), (Put(key, value, lease),))).revision

    async def delete(self, key: str) -> bool:
        reply = await self._open().write(lambda to: to.kv.DeleteRange, rpc.DeleteRangeRequest(key=encode_key(key)))
        return bool(reply.deleted)

    async def transaction(self, expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> TxnResult:
        check_transaction(expect, operations)
        reply = await self._open().write(lambda to: to.kv.Txn, transaction_request(expect, operations))
        return TxnResult(reply.succeeded, reply.header.revision)

    async def grant_lease(self, ttl_seconds: int) -> int:
        reply = await self._open().write(lambda to: to.lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=ttl_seconds))
        lease: int = reply.ID
        return lease

    async def keep_alive(self, lease: int) -> bool:
        # etcd has this as a stream only. Renewing twice does no harm, so it is a read to the endpoints.
        reply = await self._open().read(_keep_alive_once, rpc.LeaseKeepAliveRequest(ID=lease))
        return bool(reply.TTL > 0)

    async def revoke_lease(self, lease: int) -> None:
        try:
            await self._open().write(lambda to: to.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease))
        except LeaseNotFound:
            return

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]:
        machine = WatchMachine(prefix, from_revision, self._history)
        index = random.randrange(len(self._target.endpoints))
        delay = BACKOFF_FIRST_SECONDS
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            try:
                async with self._connection(index) as connection, aclosing(follow(connection, machine)) as batches:
                    async for batch in batches:
                        yield batch
            except Compacted:
                self._history = None
                raise
            except (WatchLost, StoreUnavailable) as error:
                # What lasted longer than any delay was a healthy connection: this is a new outage.
                if now() - began > BACKOFF_LAST_SECONDS:
                    delay = BACKOFF_FIRST_SECONDS
                # Once per outage; the attempts that follow say nothing new.
                level = logging.WARNING if delay == BACKOFF_FIRST_SECONDS else logging.DEBUG
                _log.log(level, "watch of %s resumes at revision %d: %s", prefix, machine.next_revision, error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, BACKOFF_LAST_SECONDS)
            index += 1

    @asynccontextmanager
    async def _connection(self, index: int) -> AsyncIterator[Connection]:
        """A watch has a connection of its own: giving it up disturbs nobody."""
        self._open()
        endpoint = self._target.endpoints[index % len(self._target.endpoints)]
        connection = await Connection.dial(self._target, endpoint)
        self._watching.add(connection)
        try:
            # Closed while dialling: nobody else would end this connection.
            self._open()
            yield connection
        finally:
            self._watching.discard(connection)
            await connection.close()

    async def _pages(self, prefix: str) -> Listing:
        entries: list[Entry] = []
        revision, after = 0, None
        while True:
            reply = await self._open().read(lambda to: to.kv.Range, page_request(prefix, after, PAGE, revision))
            entries += map(entry, reply.kvs)
            # All pages are of the revision that the first one stood at.
            revision = revision or reply.header.revision
            if not reply.more:
                return Listing(revision, tuple(entries))
            after = reply.kvs[-1].key

    def _open(self) -> Endpoints:
        if self._endpoints is None:
            raise StoreError("the etcd store is not open")
        return self._endpoints


def _keep_alive_once(to: Connection) -> Stub:
    async def call(request: Message, *, timeout: float, metadata: Message) -> Message:  # noqa: ASYNC109 (the shape of a unary call)
        stream = to.lease.LeaseKeepAlive(iter((request,)), timeout=timeout, metadata=metadata)
        async for reply in stream:
            stream.cancel()
            return reply
        raise StoreUnavailable(f"etcd at {to.endpoint}: no answer to a lease renewal")

    return call
