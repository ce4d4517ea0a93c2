"""The plugins of one owner, bound to their configurations, in the order in which they run.

The law: plugins of the rewrite phase run before those of the access phase, inside a phase the higher priority first,
equal ones by owner and name; of a route's plugins those of global rules come first in each phase. Native plugins take part in
several phases: they stand behind the Wasm plugins here, and `program_of` or the runtime puts them into their phases. A binding
that says what it said before is the same object, so its PluginContext, or what a native plugin has counted, stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from data_plane.config.identity import kept
from data_plane.config.natives import Natives
from data_plane.config.snapshot import Binding, NativeBinding, PluginBinding, WasmPlugin
from shared.plugin.program import Program, compile_program
from shared.schema.common import PluginConf, configuration_bytes
from shared.schema.plugins import AnyConf, NativeConf

UNATTACHED = Natives()


def wasm_names(confs: Mapping[str, AnyConf]) -> set[str]:
    return {name for name, conf in confs.items() if isinstance(conf, PluginConf)}


def bind(
    owner: str,
    confs: Mapping[str, AnyConf],
    plugins: Mapping[str, WasmPlugin],
    before: Iterable[Binding],
    natives: Natives = UNATTACHED,
) -> tuple[Binding, ...]:
    """Every Wasm plugin in `confs` is a key of `plugins`. `before`: where bindings of this owner may stand since last time."""
    in_use = {binding.name: binding for binding in before if binding.owner == owner}
    bindings: list[Binding] = []
    for name, conf in confs.items():
        known = in_use.get(name)
        if isinstance(conf, NativeConf):
            bindings.append(natives.bind(owner, name, conf, known))
        else:
            bindings.append(_bind_wasm(owner, conf, plugins[name], known))
    return in_order(bindings)


def _bind_wasm(owner: str, conf: PluginConf, plugin: WasmPlugin, in_use: Binding | None) -> PluginBinding:
    binding = PluginBinding(
        plugin,
        configuration_bytes(conf.conf),
        owner,
        plugin.priority if conf.meta.priority is None else conf.meta.priority,
        conf.meta.passes,
        conf.meta.error_response,
    )
    return kept(in_use if isinstance(in_use, PluginBinding) else None, binding)


def in_order(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    return tuple(sorted(bindings, key=_place))


def besides(everywhere: tuple[Binding, ...], own: tuple[Binding, ...]) -> tuple[Binding, ...]:
    """Those of global rules that run on a route which has its own."""
    names = {each.name for each in own if isinstance(each, NativeBinding) and each.bound.plugin.prefers_route}
    return tuple(each for each in everywhere if each.name not in names) if names else everywhere


def in_phases(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """Those of global rules and of a route, each in order already."""
    return tuple(sorted(bindings, key=_phase))


def program_of(bindings: tuple[Binding, ...]) -> Program | None:
    """What they do when all of them are native."""
    if not bindings or not all(isinstance(binding, NativeBinding) for binding in bindings):
        return None
    return compile_program([cast(NativeBinding, binding).bound for binding in bindings])


def _phase(binding: Binding) -> int:
    return 2 if isinstance(binding, NativeBinding) else 0 if binding.plugin.phase == "rewrite" else 1


def _place(binding: Binding) -> tuple[int, int, str, str]:
    return (_phase(binding), -binding.priority, binding.owner, binding.name)
