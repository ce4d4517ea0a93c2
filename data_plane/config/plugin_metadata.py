"""What native plugins are told for all of their configurations together, as it is served.

The law: a version that its plugin's model refuses changes nothing but its problem: the last good one stays. One for a plugin
that is not installed here waits, and is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data_plane.config.tables import Tables
from shared.keys import ResourceKey
from shared.schema.plugin_metadata import PluginMetadata, PluginMetadataSpec, read_metadata


class MetadataTable:
    """`values` by the plugins' names."""

    __slots__ = ("_problems", "_tables", "_values")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._values: dict[str, PluginMetadata] = {}
        self._problems: dict[ResourceKey, str] = {}

    @property
    def values(self) -> Mapping[str, PluginMetadata]:
        return self._values

    @property
    def problems(self) -> Mapping[ResourceKey, str]:
        return self._problems

    def update(self, names: Iterable[str]) -> None:
        for name in names:
            key = ResourceKey("plugin_metadata", name)
            self._problems.pop(key, None)
            spec = self._tables.get(PluginMetadataSpec, key.kind, name)
            if spec is None:
                self._values.pop(name, None)
                continue
            try:
                self._values[name] = read_metadata(name, spec.document)
            except ValueError as error:
                self._problems[key] = str(error)
