"""One worker process: the composition root of the data plane.

The law: it serves from the first moment, with 503 until a first snapshot is there; it ends by SIGTERM or SIGINT with status 0
when what was in flight has ended or its grace is over, and by an exception when a part that must run has failed.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvloop

from data_plane.callout.service import CalloutService
from data_plane.config.snapshot import Snapshot
from data_plane.config.watcher import ConfigWatcher
from data_plane.http.listener import NOTHING_YET, Gateway, serve
from data_plane.plugins.runtime import WasmRuntime
from data_plane.settings import Settings
from shared.log import configure_logging
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.state.directory import HostStateError, memory_directory
from shared.proxy_wasm.state.host_state import HostState
from shared.store.blobs import get_module
from shared.store.contract import ConfigStore, StoreUnavailable
from shared.store.url import open_store

log = structlog.get_logger(__name__)

# A store that cannot even be opened (a file on a disk that is not mounted yet) is tried again so often.
STORE_RETRY_SECONDS = 0.5
# Objects that a worker makes and drops between two looks for cycles. The default of 700 is reached every few requests, and
# no request leaves a cycle behind.
GC_THRESHOLD = 50_000


def run(settings: Settings, listener: socket.socket, number: int) -> None:
    """Serve until a signal."""
    configure_logging()
    structlog.contextvars.bind_contextvars(worker=number, pid=os.getpid())
    uvloop.run(_run(settings, listener))


async def _run(settings: Settings, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with AsyncExitStack() as stack:
        worker = Worker(loop, settings)
        stack.push_async_callback(worker.callouts.close)
        stack.callback(worker.close)
        server = await serve(worker.gateway, listener)
        following = asyncio.create_task(worker.follow(), name="configuration")
        stopping = asyncio.create_task(stop.wait(), name="signal")
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            log.info("draining", exchanges=worker.gateway.busy(), grace=settings.grace)
        server.close()
        cut = await worker.gateway.drain(settings.grace)
        log.info("stopped", cut=cut, **worker.gateway.counters.statistics())
        for task in (following, stopping):
            task.cancel()
        results = await asyncio.gather(following, stopping, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def state_directory(store: str) -> Path:
    """Where the plugins of this host share what they share, in memory: one for each configuration store."""
    return memory_directory(hashlib.sha256(store.encode()).hexdigest()[:16])


def open_state(store: str) -> HostState | None:
    try:
        return HostState(state_directory(store))
    except HostStateError as error:
        log.error("plugins cannot share data, queues and metrics", reason=str(error))
        return None


class Worker:
    """The parts, wired."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self._settings = settings
        self._store: ConfigStore = open_store(settings.store)
        self._engine = Engine()
        self._runtime = WasmRuntime(self._engine, self._fetch_module, loop, open_state(settings.store))
        self.gateway = Gateway(loop, self._runtime)
        self.callouts = CalloutService(loop, self.gateway)
        self._runtime.calls = self.callouts

    async def follow(self) -> None:
        """Keep the snapshot up to date; never returns."""
        async with AsyncExitStack() as stack:
            await self._open_store(stack)
            watcher = ConfigWatcher(self._store, self._runtime.prepare, self._serve)
            await watcher.run()

    async def _open_store(self, stack: AsyncExitStack) -> None:
        said = False
        while True:
            try:
                await stack.enter_async_context(self._store)
            except StoreUnavailable as error:
                if not said:
                    log.warning("config store cannot be opened", reason=str(error))
                said = True
                await asyncio.sleep(STORE_RETRY_SECONDS)
            else:
                return

    async def _fetch_module(self, sha256: str) -> bytes | None:
        return await get_module(self._store, sha256)

    def _serve(self, snapshot: Snapshot) -> None:
        if self.gateway.snapshot is NOTHING_YET:
            log.info("ready", revision=snapshot.revision, routes=len(snapshot.routes))
        self.gateway.snapshot = snapshot
        self._runtime.sync(snapshot)

    def close(self) -> None:
        self._runtime.close()
