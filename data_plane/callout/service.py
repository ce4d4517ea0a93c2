"""The calls of all plugins of a worker, and of one plugin: who may be called, over which connections.

The law: plain HTTP calls share the connections of the gateway's own upstreams; those over TLS have a pool of their own. What
cannot be called is said in the status of the host call, everything later in its callback.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import structlog

from data_plane.callout.http_call import HttpCall
from data_plane.callout.http_message import Asked, BadCall, compose, read_fields
from data_plane.callout.target import Target, TargetError, find_target
from data_plane.callout.tls import TlsContext, TlsPool, client_context
from data_plane.callout.waiting import watch
from data_plane.config.snapshot import Route, Snapshot, WasmPlugin
from data_plane.exchange.ports import PoolPort, Serving
from data_plane.observe.counters import Counters
from data_plane.plugins.interface import PluginRuntime
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.callouts import CallHandle, GrpcHandle, GrpcRequest, HttpRequest, PendingCall
from shared.proxy_wasm.failures import VmFailed

log = structlog.get_logger("wasm")

Failed = Callable[[VmFailed], None]


class CallServing:
    """What a call needs of its worker in place of what a client's exchange needs: it has counters of its own."""

    draining = False

    def __init__(self, gateway: Serving, pool: PoolPort) -> None:
        self.snapshot: Snapshot = gateway.snapshot
        self.counters = Counters()
        self.pool: PoolPort = pool
        self.runtime: PluginRuntime = gateway.runtime


class CalloutService:
    """One for each worker. `tls` is for tests that have authorities of their own."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, gateway: Serving, tls: Callable[..., ssl.SSLContext] = client_context
    ) -> None:
        self.loop = loop
        self.gateway = gateway
        self._tls = tls
        self._plain = CallServing(gateway, gateway.pool)
        self._tls_pool: TlsPool | None = None
        self._secure: CallServing | None = None

    def callouts(self, plugin: WasmPlugin, failed: Failed) -> PluginCallouts:
        return PluginCallouts(self, plugin, failed)

    def serving(self, tls: bool) -> CallServing:
        if not tls:
            return self._plain
        if self._secure is None:
            self._tls_pool = TlsPool(self.loop, TlsContext(self._tls))
            self._secure = CallServing(self.gateway, self._tls_pool)
        return self._secure

    async def close(self) -> None:
        if self._tls_pool is not None:
            await self._tls_pool.close()


class PluginCallouts:
    """Callouts of one plugin's VM."""

    def __init__(self, service: CalloutService, plugin: WasmPlugin, failed: Failed) -> None:
        self._service = service
        self._limit = plugin.limits.body_buffer_bytes
        # APISIX also fills in what a call leaves out, and takes a host without a port.
        self.holds_requests = plugin.dialect == "apisix"
        self._failed = failed
        self._log = log.bind(plugin=plugin.name)

    def http(self, call: PendingCall, request: HttpRequest) -> tuple[Status, CallHandle | None]:
        service = self._service
        try:
            asked = read_fields(request.fields, defaults=self.holds_requests)
            target = self._target(request.upstream, asked)
            composed = compose(asked, asked.authority or target.authority, request.body, request.trailers)
        except (BadCall, TargetError) as error:
            self._log.debug("call refused", reason=str(error))
            return Status.BAD_ARGUMENT, None
        route = Route("", "", target.upstream, (), target.upstream.timeouts)
        http_call = HttpCall(service.loop, service.serving(target.tls), call, composed, route, self._limit, self._failed)
        watch(call.stream)
        http_call.begin(request.timeout_ms / 1000)
        return Status.OK, http_call

    def _target(self, name: bytes, asked: Asked) -> Target:
        server_name = asked.authority.decode("ascii").rpartition("@")[2]
        host = server_name.partition(":")[0] if not server_name.startswith("[") else server_name.partition("]")[0][1:]
        find = self._service.gateway.snapshot.find_upstream
        return find_target(name, find, asked.scheme, host, port_needed=not self.holds_requests)

    def grpc(self, call: PendingCall, request: GrpcRequest) -> tuple[Status, GrpcHandle | None]:
        return Status.UNIMPLEMENTED, None
