"""Plugins that do something without being asked: their contexts are made when they are configured, not by a first request.

The law: a plugin runs by itself when it has timers or consumes a queue, as far as its module can tell. One context at a time
is made, and then requests get as long as that took. What fails is tried again when its pause is over, request or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from data_plane.config.snapshot import Binding, PluginBinding, Route, Snapshot, StreamRoute, WasmPlugin
from shared.proxy_wasm.instance import GuestModule

# A callback that is called unasked, and the host function that asks for it.
_BY_ITSELF = (
    ("proxy_on_tick", "proxy_set_tick_period_milliseconds"),
    ("proxy_on_queue_ready", "proxy_register_shared_queue"),
)


def runs_by_itself(module: GuestModule) -> bool:
    return any(module.links[callback] == "guest" and function in module.jump.table for callback, function in _BY_ITSELF)


def bindings_of(snapshot: Snapshot, plugins: Collection[WasmPlugin]) -> list[PluginBinding]:
    """Every place where one of these plugins is effective."""
    if not plugins:
        return []
    held: list[Binding] = [*snapshot.global_bindings]
    for route in snapshot.routes.values():
        held += route.bindings
    for stream_route in snapshot.stream_routes.values():
        held += stream_route.bindings
    return [binding for binding in held if isinstance(binding, PluginBinding) and binding.plugin in plugins]


def holds(snapshot: Snapshot, binding: PluginBinding) -> bool:
    if any(held is binding for held in snapshot.global_bindings):
        return True
    kind, _, route_id = binding.owner.partition("/")
    routes: Mapping[str, Route | StreamRoute] = snapshot.stream_routes if kind == "stream_route" else snapshot.routes
    route = routes.get(route_id) if kind in ("route", "stream_route") else None
    return route is not None and any(held is binding for held in route.bindings)


class Loader:
    """`start` makes a binding's context; it answers None when that runs, or in how many seconds it may be tried again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: Callable[[PluginBinding], float | None]) -> None:
        self._loop = loop
        self._start = start
        self._wanted: dict[PluginBinding, None] = {}
        self._waiting: dict[PluginBinding, None] = {}
        self._next: asyncio.Handle | None = None
        self._retries: dict[PluginBinding, asyncio.TimerHandle] = {}

    def want(self, bindings: Collection[PluginBinding]) -> None:
        """These, and no others, are to run from now on."""
        before, self._wanted = self._wanted, dict.fromkeys(bindings)
        self._waiting = {binding: None for binding in self._waiting if binding in self._wanted}
        for binding in before.keys() - self._wanted.keys():
            self._forget(binding)
        self._add([binding for binding in self._wanted if binding not in before])

    def lost(self, plugin: WasmPlugin, seconds: float) -> None:
        """The plugin's VM failed, and may be started again after this time."""
        for binding in self._wanted:
            if binding.plugin is plugin:
                self._retry(binding, seconds)

    def close(self) -> None:
        self.want(())
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _add(self, bindings: Collection[PluginBinding]) -> None:
        self._waiting |= dict.fromkeys(bindings)
        if self._waiting and self._next is None:
            self._next = self._loop.call_soon(self._load_one)

    def _load_one(self) -> None:
        self._next = None
        if not self._waiting:
            return
        binding = next(iter(self._waiting))
        del self._waiting[binding]
        began = self._loop.time()
        seconds = self._start(binding)
        if seconds is not None:
            self._retry(binding, seconds)
        if self._waiting:
            self._next = self._loop.call_later(self._loop.time() - began, self._load_one)

    def _retry(self, binding: PluginBinding, seconds: float) -> None:
        self._forget(binding)
        self._retries[binding] = self._loop.call_later(seconds, self._again, binding)

    def _again(self, binding: PluginBinding) -> None:
        del self._retries[binding]
        self._add([binding])

    def _forget(self, binding: PluginBinding) -> None:
        retry = self._retries.pop(binding, None)
        if retry is not None:
            retry.cancel()
