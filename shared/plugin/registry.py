"""All native plugins of this installation: the gateway's own, and those that packages register.

The law: what a package does when it is imported stops nothing: a plugin that cannot be loaded is not there, and `broken` says
why. A name belongs to one plugin; a package cannot take one of the gateway's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from pydantic import BaseModel

from shared.plugin.builtin import BUILTIN
from shared.plugin.builtin.multi_auth import MultiAuth
from shared.plugin.plugin import AnyPlugin, Plugin

ENTRY_POINTS = "waspgate.plugins"

# Plugins of APISIX whose configuration is code in Lua, and what does the same here.
_LUA = "its configuration is code in Lua, which nothing here runs; write a Wasm plugin or a native plugin in Python instead"
REFUSED: Mapping[str, str] = {
    "serverless-pre-function": _LUA,
    "serverless-post-function": _LUA,
    "script": _LUA,
}


class Registry:
    """`points` are entry points; their names are the plugins'."""

    def __init__(self, builtin: Iterable[type[AnyPlugin]] = (), points: Iterable[EntryPoint] = ()) -> None:
        self.plugins: dict[str, type[AnyPlugin]] = {plugin.name: plugin for plugin in builtin}
        self.broken: dict[str, str] = {}
        for point in points:
            try:
                plugin = _loaded(point)
                if plugin.name in self.plugins:
                    raise ValueError("another plugin has this name")
                self.plugins[plugin.name] = plugin
            except Exception as error:  # whatever a package does when it is imported
                self.broken[point.name] = f"native plugin {point.name} cannot be loaded from {point.value}: {error}"

    def get(self, name: str) -> type[AnyPlugin] | None:
        return self.plugins.get(name)

    def by_priority(self) -> list[type[AnyPlugin]]:
        return sorted(self.plugins.values(), key=lambda plugin: (-plugin.priority, plugin.name))


@cache
def registry() -> Registry:
    """Looked up once in a process."""
    found = Registry(BUILTIN, entry_points(group=ENTRY_POINTS))
    MultiAuth.plugins = found.plugins
    return found


def _loaded(point: EntryPoint) -> type[AnyPlugin]:
    plugin = point.load()
    if not (isinstance(plugin, type) and issubclass(plugin, Plugin)):
        raise TypeError("expected a subclass of shared.plugin.Plugin")
    if getattr(plugin, "name", None) != point.name:
        raise TypeError(f"its name is {getattr(plugin, 'name', None)!r}, that of the entry point {point.name!r}")
    if type(getattr(plugin, "priority", None)) is not int:
        raise TypeError("its priority is no integer")
    if not (isinstance(getattr(plugin, "Config", None), type) and issubclass(plugin.Config, BaseModel)):
        raise TypeError("its Config is no pydantic model")
    return plugin
