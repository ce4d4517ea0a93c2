"""The Wasm plugins of a worker: which run, which wait for their module, which are kept although their resource is gone.

The law: a plugin is *live* when its resource names a module that this worker has made ready. A new version that has no
module, or whose module is unusable, leaves the last good version live. A plugin that is deleted while something still
runs it is *retained* for those who had it, and nobody else may begin to use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from data_plane.config.identity import kept
from data_plane.config.snapshot import Limits, WasmPlugin
from shared.keys import ResourceKey
from shared.schema.common import configuration_bytes
from shared.schema.wasm_plugin import WasmPluginSpec

NO_MODULE = "has no module; the last good version stays, if there was one"


class PluginRegistry:
    __slots__ = ("_candidates", "_live", "_problems", "_retained")

    def __init__(self) -> None:
        self._live: dict[str, WasmPlugin] = {}
        self._retained: dict[str, WasmPlugin] = {}
        self._candidates: dict[str, WasmPlugin] = {}
        self._problems: dict[ResourceKey, str] = {}

    @property
    def problems(self) -> Mapping[ResourceKey, str]:
        return self._problems

    @property
    def live(self) -> Mapping[str, WasmPlugin]:
        return self._live

    def all(self) -> dict[str, WasmPlugin]:
        """Everything that a binding may hold, live or retained."""
        return {**self._retained, **self._live}

    def stage(self, name: str, spec: WasmPluginSpec | None) -> None:
        """A new version of the resource; None: it is deleted."""
        self._candidates.pop(name, None)
        self._problems.pop(ResourceKey("wasm_plugins", name), None)
        if spec is None:
            gone = self._live.pop(name, None)
            if gone is not None:
                self._retained[name] = gone
            return
        fresh = compile_plugin(name, spec)
        if fresh is None:
            self._problems[ResourceKey("wasm_plugins", name)] = NO_MODULE
            return
        in_use = self._live.get(name) or self._retained.get(name)
        plugin = kept(in_use, fresh)
        if plugin is in_use:
            self._promote(name, plugin)
        else:
            self._candidates[name] = plugin

    def candidates(self) -> tuple[WasmPlugin, ...]:
        """The plugins whose modules must be made ready before `settle`."""
        return tuple(self._candidates.values())

    def settle(self, unusable: Mapping[str, str]) -> None:
        """Candidates become live, but for those that `unusable` names with the reason."""
        for name, plugin in self._candidates.items():
            if name in unusable:
                text = f"has an unusable module: {unusable[name]}; the last good version stays, if there was one"
                self._problems[ResourceKey("wasm_plugins", name)] = text
            else:
                self._promote(name, plugin)
        self._candidates.clear()

    def release(self, is_held: Callable[[str], bool]) -> None:
        """Lets go of the retained plugins that nothing holds any more."""
        for name in [name for name in self._retained if not is_held(name)]:
            del self._retained[name]

    def _promote(self, name: str, plugin: WasmPlugin) -> None:
        self._live[name] = plugin
        self._retained.pop(name, None)


def compile_plugin(name: str, spec: WasmPluginSpec) -> WasmPlugin | None:
    """None when the resource does not say yet which module it is."""
    if spec.module is None or spec.module.sha256 is None:
        return None
    return WasmPlugin(
        name=name,
        priority=spec.priority,
        sha256=spec.module.sha256,
        phase=spec.http_request_phase,
        dialect=spec.dialect,
        failure_policy=spec.failure_policy,
        limits=Limits(**spec.limits.model_dump()),
        vm_configuration=b"" if spec.vm_configuration is None else configuration_bytes(spec.vm_configuration),
        environment=dict(spec.environment),
        capabilities=None if spec.capabilities is None else frozenset(spec.capabilities),
    )
