"""One watch stream on one connection: the shell around the machine.

The law: a stream that says nothing is asked, and one that does not answer is given up. etcd itself never closes a
stream because it hangs, and TCP takes minutes to notice a frozen or cut-off server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import grpc
from aetcd import rpc
from grpc.aio import AioRpcError, UsageError

from shared.store.contract import Batch, StoreError
from shared.store.etcd_connection import Connection
from shared.store.etcd_endpoints import ATTEMPT_SECONDS
from shared.store.etcd_history import read_history
from shared.store.etcd_watch import WatchLost, WatchMachine
from shared.store.etcd_wire import Message, Stub

# Asked after 1.5 s and after 3 s of silence, given up after 4.5 s.
SILENCE_SECONDS: Final = 1.5
SILENCES: Final = 3


async def follow(connection: Connection, machine: WatchMachine) -> AsyncGenerator[Batch, None]:
    """Batches until the stream ends. Raises WatchLost, Compacted or StoreUnavailable."""
    history, revision = await read_history(
        lambda method, request: connection.call(method(connection), request, ATTEMPT_SECONDS)
    )
    machine.connected(history, revision, await _version(connection))
    # Without a leader the member would go on in silence behind the others; this makes it end the stream.
    call = connection.watch.Watch(metadata=(*connection.metadata, ("hasleader", "true")))
    reading: asyncio.Task[Message] | None = None
    try:
        await call.write(machine.create_request())
        silences = 0
        while True:
            reading = reading or asyncio.ensure_future(call.read())
            done, _ = await asyncio.wait({reading}, timeout=SILENCE_SECONDS)
            if done:
                silences, response, reading = 0, await _received(reading, call), None
                batch = machine.receive(response)
                if batch is not None:
                    yield batch
                continue
            silences += 1
            if silences == SILENCES:
                raise WatchLost(f"silent for {SILENCES * SILENCE_SECONDS} s")
            await call.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
    except AioRpcError as error:
        raise WatchLost(error.details() or error.code().name) from error
    except (asyncio.InvalidStateError, UsageError) as error:
        raise WatchLost("the stream has ended") from error
    finally:
        call.cancel()
        if reading is not None:
            reading.cancel()


async def _received(reading: asyncio.Task[Message], call: Stub) -> Message:
    # Cancelled here means that the stream was, not this task.
    if reading.cancelled():
        raise WatchLost("the connection was closed")
    response = reading.result()
    if response is grpc.aio.EOF:
        raise WatchLost(f"the stream ended: {(await call.code()).name}")
    return response


async def _version(connection: Connection) -> str:
    """Empty where the user may not ask."""
    try:
        reply = await connection.call(connection.maintenance.Status, rpc.StatusRequest(), ATTEMPT_SECONDS)
    except StoreError:
        return ""
    version: str = reply.version
    return version
