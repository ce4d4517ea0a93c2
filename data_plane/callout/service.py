"""The calls of all plugins of a worker, and of one plugin: who may be called, over which connections.

The law: plain HTTP calls share the connections of the gateway's own upstreams; those over TLS and those of gRPC have pools of
their own. What cannot be called is said in the status of the host call, everything later in its callback.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import structlog

from data_plane.callout.grpc_call import GrpcCall
from data_plane.callout.grpc_message import BadGrpcCall, request_fields
from data_plane.callout.grpc_service import GrpcService, NotAGrpcService, parse_grpc_service
from data_plane.callout.http_call import HttpCall
from data_plane.callout.http_message import Asked, BadCall, compose, read_fields
from data_plane.callout.target import Target, TargetError, find_target
from data_plane.callout.tls import TlsContext, TlsPool, client_context, unverified_context
from data_plane.callout.waiting import watch
from data_plane.config.snapshot import Route, Snapshot, WasmPlugin
from data_plane.exchange.ports import ClientPort, PoolPort, Serving
from data_plane.h2.pool import H2Pool
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

    def find_route(self, head: bytes, client: ClientPort) -> Route | None:
        """Calls have no plugins."""
        return None


class CalloutService:
    """One for each worker. `tls` is for tests that have authorities of their own."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, gateway: Serving, tls: Callable[..., ssl.SSLContext] = client_context
    ) -> None:
        self.loop = loop
        self.gateway = gateway
        self._tls = tls
        self._plain = CallServing(gateway, gateway.pool)
        # By whether servers have to prove their names.
        self._tls_pools: dict[bool, TlsPool] = {}
        self._secure: dict[bool, CallServing] = {}
        self._h2_pools: dict[bool, H2Pool] = {}

    def callouts(self, plugin: WasmPlugin, failed: Failed) -> PluginCallouts:
        return PluginCallouts(self, plugin, failed)

    def serving(self, tls: bool, verify: bool = True) -> CallServing:
        if not tls:
            return self._plain
        secure = self._secure.get(verify)
        if secure is None:
            pool = self._tls_pools[verify] = TlsPool(self.loop, TlsContext(self._tls if verify else unverified_context))
            secure = self._secure[verify] = CallServing(self.gateway, pool)
        return secure

    def h2_pool(self, tls: bool) -> H2Pool:
        pool = self._h2_pools.get(tls)
        if pool is None:
            context = TlsContext(lambda: self._tls("h2")) if tls else None
            pool = self._h2_pools[tls] = H2Pool(self.loop, context)
        return pool

    async def close(self) -> None:
        for tls_pool in self._tls_pools.values():
            await tls_pool.close()
        for pool in self._h2_pools.values():
            await pool.close()


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
        # An upstream of the configuration says itself how it is secured.
        serving = service.serving(target.tls and target.upstream.tls is None)
        http_call = HttpCall(service.loop, serving, call, composed, route, self._limit, self._failed)
        watch(call.stream)
        http_call.begin(request.timeout_ms / 1000)
        return Status.OK, http_call

    def _target(self, name: bytes, asked: Asked) -> Target:
        server_name = asked.authority.decode("ascii").rpartition("@")[2]
        host = server_name.partition(":")[0] if not server_name.startswith("[") else server_name.partition("]")[0][1:]
        find = self._service.gateway.snapshot.find_upstream
        return find_target(name, find, asked.scheme, host, port_needed=not self.holds_requests)

    def grpc(self, call: PendingCall, request: GrpcRequest) -> tuple[Status, GrpcHandle | None]:
        service = self._service
        try:
            to, target = self._grpc_target(request.upstream)
        except (NotAGrpcService, TargetError) as error:
            self._log.debug("gRPC call refused", reason=str(error))
            return Status.PARSE_FAILURE, None
        seconds = request.timeout_ms / 1000 or to.seconds
        scheme = b"https" if target.tls else b"http"
        metadata = request.metadata + to.metadata
        try:
            fields = request_fields(scheme, request.service, request.method, seconds, metadata)
        except BadGrpcCall as error:
            self._log.debug("gRPC call refused", reason=str(error))
            return Status.INTERNAL_FAILURE, None
        upstream = target.upstream
        named = to.authority or (upstream.upstream_host if upstream.pass_host == "rewrite" else target.authority)
        grpc_call = GrpcCall(
            service.loop,
            service.h2_pool(target.tls),
            call,
            upstream,
            lambda node: [(b":authority", named or node.authority), *fields],
            request.message,
            self._limit,
            self._failed,
        )
        watch(call.stream)
        grpc_call.begin(seconds)
        return Status.OK, grpc_call

    def _grpc_target(self, name: bytes) -> tuple[GrpcService, Target]:
        """A name or an address; else Envoy's message, which names one. Raises NotAGrpcService, TargetError."""
        find = self._service.gateway.snapshot.find_upstream
        try:
            return GrpcService(name), find_target(name, find, "grpc")
        except TargetError:
            to = parse_grpc_service(name)
            return to, find_target(to.target, find, "grpc")
