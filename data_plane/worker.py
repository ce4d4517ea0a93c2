"""One worker process: the composition root of the data plane.

The law: it lets clients in when it has a first snapshot, or after a second with 503; never without one if it replaces a worker
that has one. It ends by SIGTERM or SIGINT with status 0 when what was in flight has ended or its grace is over, and by an
exception when a part that must run has failed. It beats while its loop turns.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import structlog
import uvloop

from data_plane.callout.fetching import Fetching
from data_plane.callout.service import CalloutService
from data_plane.config.consumer_index import ConsumerIndex
from data_plane.config.snapshot import Snapshot
from data_plane.config.watcher import ConfigWatcher
from data_plane.dns.resolver import Resolver, servers_of
from data_plane.dns.service import DnsService
from data_plane.following import Following, kept_of
from data_plane.h2.choosing import ChoosingConnection
from data_plane.h2.downstream import H2ClientConnection
from data_plane.h2.tracing import TracingH2ClientConnection
from data_plane.health.service import HealthService
from data_plane.health.watchers import NodeWatchers
from data_plane.http.doors import Doors
from data_plane.http.downstream import ClientConnection
from data_plane.http.listener import NOTHING_YET, Gateway, serve
from data_plane.http.pressure import FileGuard, HeadGuard, MemoryGuard
from data_plane.http.proxied import proxied
from data_plane.http.tracing import Tracer, TracingConnection
from data_plane.http.trust import Trust
from data_plane.http.tuned import tune
from data_plane.observe.pulse import BEAT_SECONDS, Pulse, State
from data_plane.observe.registration import Registration
from data_plane.observe.reporter import Reporter
from data_plane.observe.status import PROBLEMS_SHOWN, WorkerStatus
from data_plane.observe.traces import TRACES_PATH, TraceStore
from data_plane.observe.upstream_log import UpstreamLog
from data_plane.plugins.host import WorkerHost
from data_plane.plugins.limits import HostLimits
from data_plane.plugins.metrics import HostMetrics
from data_plane.plugins.responses import HostResponses
from data_plane.plugins.runtime import WasmRuntime
from data_plane.process.allocator import keep_freed_memory
from data_plane.process.sockets import StreamListener
from data_plane.secrets.values import Values
from data_plane.secrets.vault import Vault
from data_plane.settings import Settings, shown
from data_plane.tcp.connection import ClientConnection as StreamClient
from data_plane.tcp.listener import StreamGateway, serve_streams
from data_plane.tls.client import (
    TlsClientConnection,
    TlsH2ClientConnection,
    TlsTracingConnection,
    TlsTracingH2ClientConnection,
)
from data_plane.tls.connection import TlsConnection
from data_plane.tls.listener import ANY, H2, HTTP_1, TlsGateway, serve_tls
from data_plane.upstream_tls.contexts import ClientContexts
from shared.data_planes import WorkerEntry, problems_shown
from shared.log import configure_logging
from shared.networks import parse_networks
from shared.plugin.registry import registry
from shared.proxy_wasm.code_cache import CodeCacheError, default_directory
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.foreign.registry import installed
from shared.proxy_wasm.state.directory import HostStateError, memory_directory
from shared.proxy_wasm.state.host_state import HostState
from shared.run_file import state_home
from shared.secrets.sources import keyring_of
from shared.store.contract import ConfigStore
from shared.store.url import is_read_only, open_store
from shared.tuning import Tuning
from shared.version import version_here

T = TypeVar("T")
log = structlog.get_logger(__name__)

# So long a client of a worker that has just started waits for a configuration, instead of being told that there is none.
FIRST_SNAPSHOT_SECONDS = 1.0
# Objects that a worker makes and drops between two looks for cycles. The default of 700 is reached every few requests, and
# no request leaves a cycle behind.
GC_THRESHOLD = 50_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands: its number, its sockets, its pulse, and whether it `replaces` one that serves already.
    `data_plane` is the name of the whole in the store's registry."""

    number: int
    listeners: Sequence[socket.socket]
    streams: Sequence[StreamListener]
    pulse: Pulse
    replaces: bool = False
    tls: Sequence[socket.socket] = ()
    data_plane: str = field(default_factory=lambda: uuid4().hex)


def run(settings: Settings, place: Place) -> None:
    """Serve until a signal."""
    tune(settings.tuning)
    keep_freed_memory()
    configure_logging()
    structlog.contextvars.bind_contextvars(worker=place.number, pid=os.getpid())
    uvloop.run(_run(settings, place))


async def _run(settings: Settings, place: Place) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    beat(loop, place.pulse)
    async with AsyncExitStack() as stack:
        worker = Worker(loop, settings, place)
        stack.push_async_callback(worker.callouts.close)
        stack.callback(worker.close)
        stack.push_async_callback(worker.host.close)
        stack.push_async_callback(worker.watchers.close)
        following = asyncio.create_task(worker.follow(), name="configuration")
        stopping = asyncio.create_task(stop.wait(), name="signal")
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        await worker.first_snapshot({following, stopping})
        doors = None if stopping.done() else await worker.let_in(place)
        await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
        grace = settings.tuning.grace
        if not following.done():
            log.info("draining", exchanges=worker.gateway.busy(), sessions=worker.streams.busy(), grace=grace)
        if doors is not None:
            doors.close()
        await asyncio.gather(worker.tls.drain(), worker.stream_tls.drain())
        cut = sum(await asyncio.gather(worker.gateway.drain(grace), worker.streams.drain(grace)))
        log.info("stopped", cut=cut, **worker.gateway.counters.statistics(), **worker.streams.counters.statistics())
        for task in (following, stopping):
            task.cancel()
        results = await asyncio.gather(following, stopping, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def beat(loop: asyncio.AbstractEventLoop, pulse: Pulse) -> None:
    """As long as the loop turns."""
    pulse.beat()
    loop.call_later(BEAT_SECONDS, beat, loop, pulse)


def state_directory(store: str) -> Path:
    """Where the plugins of this host share what they share, in memory: one for each configuration store."""
    return memory_directory(hashlib.sha256(store.encode()).hexdigest()[:16])


def open_state(store: str) -> HostState | None:
    try:
        return HostState(state_directory(store))
    except HostStateError as error:
        log.error("plugins cannot share data, queues and metrics", reason=str(error))
        return None


def open_engine() -> Engine:
    """Compiled plugins outlive the worker, in the user's cache."""
    try:
        return Engine(default_directory())
    except CodeCacheError as error:
        log.warning("compiled plugins are not kept, every start compiles them", reason=str(error))
        return Engine()


def _tracer(settings: Settings, runtime: WasmRuntime) -> Tracer | None:
    if settings.trace_key is None or settings.control is None:
        return None
    link = f"http://{shown(settings.control)}{TRACES_PATH}"
    return Tracer(settings.trace_key, runtime, TraceStore(state_directory(settings.store)), link)


def trust_of(tuning: Tuning) -> Trust:
    return Trust(parse_networks(",".join(tuning.trusted_addresses)), tuning.real_ip_header.lower().encode())


def values_of(settings: Settings) -> Values:
    """Of secrets: those that lie sealed in the store, and those that the configuration refers to."""
    keyring = keyring_of(settings.store, settings.encryption_keys, settings.encryption_keys_file)
    fetch = Vault(settings.tuning.ssl_trusted_certificate).fetch
    return Values(keyring, fetch=fetch, ttl=settings.tuning.secret_ttl)


def watchers_of(gateway: Gateway, tuning: Tuning, state: HostState | None) -> NodeWatchers:
    """Of the nodes of upstreams; without a state the worker checks for itself."""
    contexts = gateway.pool.contexts = ClientContexts(
        tuning.ssl_trusted_certificate or None, lambda ssl_id: gateway.snapshot.ssls.clients.get(ssl_id)
    )
    rows = None if state is None else state.health
    health = HealthService(gateway.loop, rows, contexts, checks=not tuning.disable_upstream_healthcheck)
    dns = DnsService(gateway.loop, Resolver(servers_of(tuning.dns_resolver)), gateway.pool.retire)
    return NodeWatchers(health, dns)


class Worker:
    """The parts, wired."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings, place: Place) -> None:
        self._settings = settings
        self._number = place.number
        self._replaces = place.replaces
        self._pulse = place.pulse
        self._lets_in = False
        self._started_at = time.time()
        state = open_state(settings.store)
        self._store: ConfigStore = open_store(settings.store)
        self._engine = open_engine()
        for problem in registry().broken.values():
            log.error("native plugin is not there", reason=problem)
        self._following = Following(self._store, kept_of(settings.store, place.number))
        self._runtime = WasmRuntime(self._engine, self._following.fetch_module, loop, state, foreign=installed())
        self.gateway = Gateway(loop, self._runtime, trust_of(settings.tuning))
        self.streams = StreamGateway(self.gateway, self._runtime)
        self.callouts = CalloutService(loop, self.gateway)
        self._runtime.calls = self.callouts

        self.gateway.counters.on_upstream_error = UpstreamLog(loop)
        self.watchers = watchers_of(self.gateway, settings.tuning, state)
        consumers = ConsumerIndex()
        self._limits = HostLimits(state)
        self._responses = HostResponses(state, state_home() / "responses" / state_directory(settings.store).name)
        self.host = WorkerHost(
            loop,
            consumers.table,
            lambda id: self.gateway.snapshot.find_upstream(id),
            self._runtime.native_failed,
            self._limits.rows,
            Fetching(self.callouts).fetch,
            self._responses.zone,
            HostMetrics(state),
        )
        self._watcher = ConfigWatcher(self._store, self._runtime.prepare, self._serve, self.watchers, self.host, consumers)
        self._watcher.on_applied = self._applied
        self._registration = Registration(self._store, place.data_plane, partial(self._entry, place))
        self._watcher.use(values_of(settings))
        self._tracer = None if state is None else _tracer(settings, self._runtime)
        ciphers = settings.tuning.ssl_ciphers
        self.tls = TlsGateway(self.gateway, {H2: self.tls_h2_connection, HTTP_1: self.tls_connection}, ciphers)
        self.stream_tls = TlsGateway(self.gateway, {ANY: lambda _: StreamClient(self.streams, peeks=False)}, ciphers)
        limit = settings.tuning.memory_limit
        self._guards: list[FileGuard | HeadGuard | MemoryGuard] = [HeadGuard(self.gateway)]
        if limit:
            self._guards.append(MemoryGuard(self.gateway, limit, self._note_memory))
        self._reporter = (
            None if state is None else Reporter(loop, state, self.gateway.counters, self.streams.counters, self._status)
        )

    async def follow(self) -> None:
        """Keep the snapshot up to date; never returns."""
        await self._following.run(self._watcher, None if is_read_only(self._settings.store) else self._registration)

    async def first_snapshot(self, ends: set[asyncio.Task[Any]]) -> None:
        """Wait for it; not for ever, unless others serve meanwhile."""
        seconds = None if self._replaces else FIRST_SNAPSHOT_SECONDS
        known = asyncio.create_task(self._watcher.ready.wait(), name="first snapshot")
        await asyncio.wait({known, *ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        known.cancel()

    async def let_in(self, place: Place) -> Doors:
        loop = self.gateway.loop
        doors = Doors(loop)
        for listener in place.listeners:
            doors.add(listener, lambda door: serve(self.gateway, door, self._accepts(self.connection)))
        for listener in place.tls:
            doors.add(listener, partial(serve_tls, self.tls, connection=self._accepts(TlsConnection)))
        for listener, item in place.streams:
            if item.terminates:
                doors.add(listener, partial(serve_tls, self.stream_tls))
            else:
                doors.add(listener, partial(serve_streams, self.streams, peeks=item.sniffs))
        await doors.open()
        self._guards.append(FileGuard(loop, doors))
        self._lets_in = True
        self._pulse.state = State.SERVING if self.gateway.snapshot is NOTHING_YET else State.READY
        return doors

    def _accepts(self, make: Callable[[T], object]) -> Callable[[T], asyncio.Protocol]:
        """What is made of an accepted connection, if need be once it has said whose it is."""
        if self._settings.tuning.proxy_protocol:
            return proxied(self.gateway, make)
        return cast("Callable[[T], asyncio.Protocol]", make)

    def connection(self, gateway: Gateway) -> object:
        """What talks to a client in the clear."""
        if self._settings.tuning.h2c:
            return ChoosingConnection(gateway, self.http1_connection, self.h2_connection)
        return self.http1_connection(gateway)

    def h2_connection(self, gateway: Gateway) -> H2ClientConnection:
        return H2ClientConnection(gateway) if self._tracer is None else TracingH2ClientConnection(gateway, self._tracer)

    def http1_connection(self, gateway: Gateway) -> ClientConnection:
        return ClientConnection(gateway) if self._tracer is None else TracingConnection(gateway, self._tracer)

    def tls_connection(self, gateway: Gateway) -> TlsClientConnection:
        """What talks to a client over TLS."""
        return TlsClientConnection(gateway) if self._tracer is None else TlsTracingConnection(gateway, self._tracer)

    def tls_h2_connection(self, gateway: Gateway) -> TlsH2ClientConnection:
        return TlsH2ClientConnection(gateway) if self._tracer is None else TlsTracingH2ClientConnection(gateway, self._tracer)

    def _status(self) -> WorkerStatus:
        watcher = self._watcher
        return WorkerStatus(
            worker=self._number,
            pid=os.getpid(),
            started_at=self._started_at,
            ready=self.gateway.snapshot is not NOTHING_YET,
            store_reachable=watcher.is_reachable and self._registration.is_answered,
            stale=watcher.is_stale,
            revision=watcher.applied_revision,
            connections=len(self.gateway.clients),
            problems=dict(islice(watcher.problems.items(), PROBLEMS_SHOWN)),
            problems_total=len(watcher.problems),
            plugins=self._runtime.statuses(),
            tasks=len(asyncio.all_tasks(self.gateway.loop)),
        )

    def _entry(self, place: Place) -> WorkerEntry:
        watcher = self._watcher
        return WorkerEntry(
            host=self._runtime.node,
            version=version_here(),
            listen=shown(place.listeners[0].getsockname()[:2]),
            workers=self._settings.workers,
            worker=self._number,
            pid=os.getpid(),
            started_at=self._started_at,
            revision=watcher.applied_revision,
            ready=watcher.ready.is_set(),
            stale=watcher.is_stale,
            problems=problems_shown(watcher.problems, watcher.recent),
            problems_total=len(watcher.problems),
        )

    def _applied(self, awaited: bool) -> None:
        self._pulse.is_stale = self._watcher.is_stale
        self._registration.changed(awaited=awaited)

    def _serve(self, snapshot: Snapshot) -> None:
        if self.gateway.snapshot is NOTHING_YET:
            log.info("ready", revision=snapshot.revision, routes=len(snapshot.routes))
        if snapshot.stream_routes and not (self._settings.streams or self.gateway.snapshot.stream_routes):
            log.warning("stream routes are configured, but nothing listens for them: see --stream-listen")
        if snapshot.ssls.all and not (self._settings.tls or self.gateway.snapshot.ssls.all):
            log.warning("certificates are configured, but nothing listens for TLS: see --tls-listen")
        self.gateway.snapshot = snapshot
        self._runtime.sync(snapshot)
        self.watchers.settled()
        if self._lets_in and self._pulse.state == State.SERVING:
            self._pulse.state = State.READY

    def _note_memory(self, short: bool) -> None:
        if self._pulse.state in (State.READY, State.SHORT):
            self._pulse.state = State.SHORT if short else State.READY

    def close(self) -> None:
        for guard in self._guards:
            guard.close()
        if self._reporter is not None:
            self._reporter.close()
        self._limits.close()
        self._responses.close()
        self._runtime.close()
