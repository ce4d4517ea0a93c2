"""The plugins of all global rules: they run for every request, before those of its route.

The law: a plugin that two rules name runs once, as the first of them (by key) says, and the other is reported. A rule
that names a plugin which cannot run, and of which no complete version was ever seen, blocks all routes: what it guards
is everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data_plane.config.bindings import UNATTACHED, bind, in_order, wasm_names
from data_plane.config.holders import Held
from data_plane.config.natives import Natives
from data_plane.config.snapshot import Binding, WasmPlugin
from shared.keys import ResourceKey
from shared.plugin_merge import effective_plugins
from shared.schema.global_rule import GlobalRuleSpec


@dataclass(frozen=True, slots=True)
class GlobalPlugins:
    bindings: tuple[Binding, ...] = ()
    blocked: bool = False


def bind_global(
    rules: Mapping[str, Held[GlobalRuleSpec]],
    plugins: Mapping[str, WasmPlugin],
    before: GlobalPlugins,
    natives: Natives = UNATTACHED,
) -> tuple[GlobalPlugins, dict[ResourceKey, str]]:
    """The plugins, and what is wrong with the rules that name one twice."""
    bindings: list[Binding] = []
    blocked = False
    rule_of: dict[str, str] = {}
    problems: dict[ResourceKey, str] = {}
    for rule_id, held in sorted(rules.items()):
        confs = effective_plugins(held.spec.plugins, None, None)
        blocked = blocked or not wasm_names(confs) <= plugins.keys()
        for name in sorted(confs.keys() & rule_of.keys()):
            text = f"plugin [{name}] runs as global rule {rule_of[name]} says; here it is ignored"
            problems[ResourceKey("global_rules", rule_id)] = text
        running = confs.keys() - (wasm_names(confs) - plugins.keys()) - rule_of.keys()
        own = {name: conf for name, conf in confs.items() if name in running}
        rule_of |= dict.fromkeys(own, rule_id)
        bindings += bind(f"global_rule/{rule_id}", own, plugins, before.bindings, natives)
    return GlobalPlugins(in_order(bindings), blocked), problems
