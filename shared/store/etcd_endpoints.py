"""Unary calls to an etcd cluster: the choice among its endpoints, and when a call is repeated.

The law: a call is bounded in time; it is repeated elsewhere only when repeating can do no harm (a read, or a refused
login). A write that may have been sent is never sent twice: its caller is told StoreUnavailable and decides.
"""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
from grpc.aio import AioRpcError

from shared.store.contract import StoreError, StoreUnavailable
from shared.store.etcd_connection import Connection, EtcdTarget, Method
from shared.store.etcd_wire import Message, TokenRefused
from shared.store.patience import waiting

# A whole call, with all its attempts.
CALL_SECONDS: Final = 5.0
# One endpoint's share of it when there are others: so a silent one leaves time for the next.
ATTEMPT_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.1


class Endpoints:
    """Unary calls over one connection at a time, moving on to the next endpoint when one fails."""

    __slots__ = ("_connection", "_dialing", "_index", "_retired", "_target")

    def __init__(self, target: EtcdTarget) -> None:
        self._target = target
        self._index = 0
        self._connection: Connection | None = None
        self._dialing = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()

    async def read(self, method: Method, request: Message) -> Message:
        """Tried on every endpoint that the time allows."""
        with waiting(CALL_SECONDS) as seconds:
            return await self._read(method, request, _now() + seconds)

    async def _read(self, method: Method, request: Message, deadline: float) -> Message:
        while True:
            connection = await self.connect(deadline)
            try:
                return await self._attempt(connection, method, request, self._share(deadline))
            except StoreUnavailable:
                if connection is self._connection or _now() + RETRY_SECONDS >= deadline:
                    raise
            # A server without a leader refuses at once: do not ask it in a tight loop.
            await asyncio.sleep(RETRY_SECONDS)

    async def write(self, method: Method, request: Message) -> Message:
        with waiting(CALL_SECONDS) as seconds:
            deadline = _now() + seconds
            connection = await self.connect(deadline)
            return await self._attempt(connection, method, request, deadline - _now())

    async def connect(self, deadline: float) -> Connection:
        """The current connection, or the first endpoint that answers, beginning with the next one to try."""
        failures: list[StoreError] = []
        try:
            async with asyncio.timeout_at(deadline), self._dialing:
                for _ in self._target.endpoints:
                    if self._connection is not None and self._connection.ready:
                        return self._connection
                    self._retire()
                    try:
                        self._connection = await Connection.dial(self._target, self._endpoint())
                    except StoreError as error:
                        failures.append(error)
                        self._index += 1
                    else:
                        return self._connection
        except TimeoutError:
            failures.append(StoreUnavailable(f"no endpoint answered within {CALL_SECONDS} s"))
        raise StoreUnavailable("; ".join(map(str, failures))) from failures[-1]

    async def close(self) -> None:
        self._retire(grace_seconds=0)
        await asyncio.gather(*self._retired)

    async def _attempt(self, connection: Connection, method: Method, request: Message, seconds: float) -> Message:
        try:
            try:
                return await connection.call(method(connection), request, seconds)
            except TokenRefused:
                await connection.log_in()
                return await connection.call(method(connection), request, seconds)
        except StoreUnavailable as error:
            # Down or silent: the next call goes elsewhere. A refusal would be the same everywhere.
            if connection is self._connection and _is_endpoint_failure(error):
                self._index += 1
                self._retire()
            raise

    def _endpoint(self) -> str:
        return self._target.endpoints[self._index % len(self._target.endpoints)]

    def _share(self, deadline: float) -> float:
        left = deadline - _now()
        return left if len(self._target.endpoints) == 1 else min(left, ATTEMPT_SECONDS)

    def _retire(self, grace_seconds: float = CALL_SECONDS + 1) -> None:
        """Closed after the calls that are still on it, each of which is bounded."""
        connection, self._connection = self._connection, None
        if connection is not None:
            task = asyncio.create_task(connection.close(grace_seconds))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)


def _is_endpoint_failure(error: StoreUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, AioRpcError) and cause.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
