"""Plugin metadata: what all configurations of one native plugin have in common. Its id is the plugin's name.

The law: what it may say is the plugin's own `Metadata` model's; a plugin without one takes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.plugin.registry import registry
from shared.schema.common import Spec
from shared.schema.errors import Problem, SchemaError, from_validation


class PluginMetadataSpec(Spec):
    """Of any plugin: `read_metadata` knows which."""

    model_config = ConfigDict(extra="allow")

    @property
    def document(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


@dataclass(frozen=True, slots=True)
class PluginMetadata:
    """`value` is an instance of the plugin's `Metadata`."""

    value: BaseModel


NO_METADATA: Mapping[str, PluginMetadata] = {}


def read_metadata(name: str, document: Mapping[str, Any]) -> PluginMetadata:
    """Raises SchemaError."""
    plugin = registry().get(name)
    if plugin is None:
        raise SchemaError((Problem("$", f"invalid plugin name: there is no native plugin [{name}]"),))
    if plugin.Metadata is None:
        raise SchemaError((Problem("$", f"plugin [{name}] takes no metadata"),))
    try:
        return PluginMetadata(plugin.Metadata.model_validate(document))
    except ValidationError as error:
        raise from_validation(error, lambda location: tuple(plugin.Metadata.model_fields) if not location else ()) from error
