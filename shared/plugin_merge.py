"""Which plugins a route runs when it, its plugin_config and its service all name some.

The law: by whole plugin name, never by field: the route's configuration wins over the plugin_config's, that over the
service's; a winner with `_meta.disable` takes the plugin out. Global rules have no part in this, they run besides.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.schema.plugins import AnyConf

Plugins = Mapping[str, AnyConf]


def effective_plugins(route: Plugins | None, plugin_config: Plugins | None, service: Plugins | None) -> dict[str, AnyConf]:
    """The plugins of a route; None stands for an owner that is absent or names none."""
    merged = {**(service or {}), **(plugin_config or {}), **(route or {})}
    return {name: conf for name, conf in merged.items() if not conf.meta.disable}
