"""The plugins of one owner, bound to their configurations, in the order in which they run.

The law: plugins of the rewrite phase run before those of the access phase, inside a phase the higher priority first,
equal ones by owner and name. A binding that says what it said before is the same object, so its PluginContext stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data_plane.config.identity import kept
from data_plane.config.snapshot import PluginBinding, WasmPlugin
from shared.schema.common import PluginConf, configuration_bytes


def bind(
    owner: str,
    confs: Mapping[str, PluginConf],
    plugins: Mapping[str, WasmPlugin],
    before: Iterable[PluginBinding],
) -> tuple[PluginBinding, ...]:
    """Every name in `confs` is a key of `plugins`. `before`: where bindings of this owner may stand since last time."""
    in_use = {binding.plugin.name: binding for binding in before if binding.owner == owner}
    return in_order(_bind_one(owner, conf, plugins[name], in_use.get(name)) for name, conf in confs.items())


def _bind_one(owner: str, conf: PluginConf, plugin: WasmPlugin, in_use: PluginBinding | None) -> PluginBinding:
    priority = plugin.priority if conf.meta.priority is None else conf.meta.priority
    return kept(in_use, PluginBinding(plugin, configuration_bytes(conf.conf), owner, priority))


def in_order(bindings: Iterable[PluginBinding]) -> tuple[PluginBinding, ...]:
    return tuple(sorted(bindings, key=_place))


def _place(binding: PluginBinding) -> tuple[bool, int, str, str]:
    return (binding.plugin.phase != "rewrite", -binding.priority, binding.owner, binding.plugin.name)
