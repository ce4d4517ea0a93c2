"""The native plugins of a worker: made from their configurations, given the host, and let go.

The law: a plugin lives as long as its binding: what says the same as before stays the same object, with all that it has
counted. It is detached when the last snapshot and the last request that have its binding are gone. What a plugin does when it
is attached or detached stops nothing but itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping

from data_plane.config.snapshot import Binding, NativeBinding
from shared.plugin.host import Host
from shared.plugin.plugin import AnyPlugin, Plugin
from shared.plugin.program import Bound
from shared.schema.plugin_metadata import NO_METADATA, PluginMetadata
from shared.schema.plugins import NativeConf


class Natives:
    """`metadata` by the plugins' names, as of now. Without a host nothing is attached."""

    __slots__ = ("_host", "_metadata")

    def __init__(self, host: Host | None = None, metadata: Mapping[str, PluginMetadata] = NO_METADATA) -> None:
        self._host = host
        self._metadata = metadata

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
            self._attach(self._host, plugin, binding)
        return binding

    @staticmethod
    def _attach(host: Host, plugin: AnyPlugin, binding: NativeBinding) -> None:
        try:
            plugin.attach(host)
        except Exception as error:  # whatever a package does
            host.failed(plugin.name, error)
        if type(plugin).detach is not Plugin.detach:
            weakref.finalize(binding, _detach, plugin, host).atexit = False


def _detach(plugin: AnyPlugin, host: Host) -> None:
    try:
        plugin.detach()
    except Exception as error:  # whatever a package does
        host.failed(plugin.name, error)
