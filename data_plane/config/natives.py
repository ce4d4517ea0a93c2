"""The native plugins of a worker: made from their configurations, given the host, and let go.

The law: a plugin lives as long as its binding: what says the same as before stays the same object, with all that it has
counted. It is detached when the last snapshot and the last request that have its binding are gone. What a plugin does when it
is attached or detached stops nothing but itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import cast

from data_plane.config.snapshot import Binding, NativeBinding
from data_plane.config.upstreams import UpstreamTable
from shared.plugin.host import Host
from shared.plugin.plugin import AnyPlugin, Plugin
from shared.plugin.program import Bound
from shared.schema.plugin_metadata import NO_METADATA, PluginMetadata
from shared.schema.plugins import NativeConf
from shared.schema.upstream import UpstreamSpec


class Natives:
    """`metadata` by the plugins' names, as of now. Without a host nothing is attached."""

    __slots__ = ("_host", "_made", "_metadata", "_upstreams")

    def __init__(
        self,
        host: Host | None = None,
        metadata: Mapping[str, PluginMetadata] = NO_METADATA,
        upstreams: UpstreamTable | None = None,
    ) -> None:
        self._host = host
        self._metadata = metadata
        self._upstreams = upstreams or UpstreamTable()
        self._made = 0

    def bind(self, owner: str, name: str, conf: NativeConf, in_use: Binding | None) -> NativeBinding:
        """`in_use` is what this owner has under the name now."""
        metadata = self._metadata.get(name)
        source = (conf, metadata)
        if isinstance(in_use, NativeBinding) and in_use.source == source:
            return in_use
        plugin = conf.plugin(conf.config, None if metadata is None else metadata.value)
        plugin.owner = owner
        bound = Bound.of(plugin, conf.meta.passes, conf.meta.error_response)
        priority = plugin.priority if conf.meta.priority is None else conf.meta.priority
        binding = NativeBinding(source, bound, owner, priority)
        if self._host is not None:
            self._give_upstreams(plugin, binding)
            self._attach(self._host, plugin, binding)
        return binding

    def _give_upstreams(self, plugin: AnyPlugin, binding: NativeBinding) -> None:
        """Those that its configuration describes have names that no other has, so they go with it."""
        specs = {name: cast(UpstreamSpec, spec) for name, spec in plugin.own_upstreams().items()}
        if not specs:
            return
        table = self._upstreams
        self._made += 1
        place = f"{plugin.owner}/{plugin.name}/{self._made}"

        def find(name: str) -> object | None:
            return table.compile(f"{place}/{name}", specs[name])

        for name in specs:
            # Now, so that their nodes are watched as those of other upstreams are.
            find(name)
        plugin.use_upstreams(find)
        weakref.finalize(binding, _forget, table, [f"{place}/{name}" for name in specs]).atexit = False

    @staticmethod
    def _attach(host: Host, plugin: AnyPlugin, binding: NativeBinding) -> None:
        try:
            plugin.attach(host)
        except Exception as error:  # whatever a package does
            host.failed(plugin.name, error)
        if type(plugin).detach is not Plugin.detach:
            weakref.finalize(binding, _detach, plugin, host).atexit = False


def _forget(table: UpstreamTable, names: list[str]) -> None:
    for name in names:
        table.forget(name)


def _detach(plugin: AnyPlugin, host: Host) -> None:
    try:
        plugin.detach()
    except Exception as error:  # whatever a package does
        host.failed(plugin.name, error)
