"""Plugin metadata: what all configurations of one native plugin have in common. Its id is the plugin's name.

The law: what it may say is the plugin's own `Metadata` model's; a plugin without one takes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class PluginMetadata:
    """`value` is an instance of the plugin's `Metadata`."""

    value: BaseModel


NO_METADATA: Mapping[str, PluginMetadata] = {}
