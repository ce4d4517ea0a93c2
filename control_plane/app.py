"""The control plane as an ASGI application.

The law: everything hangs on the arguments of `create_app`, nothing on module state; the store is opened and closed by
the caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Depends, FastAPI
from starlette.responses import Response

from control_plane import errors
from control_plane.admin import docs_page, openapi, schema_routes
from control_plane.admin.batches import Batches
from control_plane.admin.collector import Collector
from control_plane.admin.config_routes import ConfigRoutes
from control_plane.admin.history_routes import HistoryRoutes
from control_plane.admin.leases import Leases
from control_plane.admin.module_routes import ModuleRoutes
from control_plane.admin.modules import Modules
from control_plane.admin.plugin_routes import PluginRoutes
from control_plane.admin.resources import Resources
from control_plane.admin.router import ResourceRoutes, unmatched
from control_plane.admin.transaction_routes import TransactionRoutes
from control_plane.admin.version_routes import VersionRoutes
from control_plane.admin.writer import Writer
from control_plane.audit import Audit
from control_plane.auth.access import require_key
from control_plane.auth.perimeter import Perimeter
from control_plane.cluster.registry import Registry
from control_plane.cluster.routes import DataPlaneRoutes, awaited
from control_plane.sandbox.sandbox import Sandbox
from control_plane.security import Guard
from control_plane.sources.sources import Sources
from control_plane.status import Status
from shared.schema.resources import RESOURCES
from shared.store.contract import ConfigStore

PREFIX = "/apisix/admin"
# Unreferenced modules cost only space.
COLLECT_SECONDS = 600.0
VERBS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def create_app(
    store: ConfigStore,
    *,
    keys: Sequence[str] = (),
    guard: Guard | None = None,
    clock: Callable[[], float] = time.time,
    collect_seconds: float = COLLECT_SECONDS,
    sandbox: Sandbox | None = None,
    sources: Sources | None = None,
) -> FastAPI:
    """The Admin API over an open store, for whoever has one of the keys. It has a sandbox of its own unless it is given one."""
    guard = guard or Guard.of(keys)
    modules = Modules(store, sources or Sources.of())
    tried_in = Sandbox() if sandbox is None else sandbox
    batches = Batches(store)
    resources = Resources(Writer(store, modules, tried_in, clock, Leases(store, clock), batches))
    collector = Collector(store)
    registry = Registry(store)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(batches.watch_over(), name="watch-over-batches")
            collecting = tasks.create_task(collector.collect_every(collect_seconds), name="collect-modules")
            yield
            collecting.cancel()
            watching.cancel()
        await registry.close()
        if sandbox is None:
            tried_in.close()

    app = openapi.DescribedApp(
        title="Waspgate Admin API",
        version=_version(),
        description="Routes, services, upstreams and Wasm plugins. Every request needs the header X-API-KEY.",
        docs_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    errors.install(app)
    app.add_api_route(PREFIX, _alive, methods=["HEAD"], include_in_schema=False)
    Status(store).register(app)
    open_router = APIRouter(prefix=PREFIX)
    docs_page.register(open_router)
    app.include_router(open_router)
    app.include_router(_admin_router(resources, modules, guard, registry))
    app.add_middleware(Perimeter, hosts=guard.hosts, trusted=guard.trusted, allowed=guard.allowed)
    app.add_middleware(Audit, write=guard.audit)
    app.add_middleware(errors.Boundary, server=f"waspgate/{app.version}")
    return app


def _version() -> str:
    try:
        return version("waspgate")
    except PackageNotFoundError:
        # A source checkout that nobody installed.
        return "0+unknown"


async def _alive() -> Response:
    return Response(media_type=errors.JSON)


def _admin_router(resources: Resources, modules: Modules, guard: Guard, registry: Registry) -> APIRouter:
    route_class = awaited(resources.store, registry)
    access = Depends(require_key(guard.keys, guard.attempts, PREFIX))
    router = APIRouter(prefix=PREFIX, dependencies=[access], route_class=route_class)
    DataPlaneRoutes(registry).register(router)
    # Before the kinds: `module` is no sub-path of a PATCH, and `schema` no kind.
    ModuleRoutes(resources, modules).register(router)
    VersionRoutes(resources).register(router)
    PluginRoutes(resources).register(router)
    TransactionRoutes(resources).register(router)
    ConfigRoutes(resources).register(router)
    for resource in RESOURCES.values():
        HistoryRoutes(resource, resources).register(router)
        ResourceRoutes(resource, resources).register(router)
    schema_routes.register(router)
    router.add_api_route("/{path:path}", unmatched, methods=VERBS, include_in_schema=False)
    return router
