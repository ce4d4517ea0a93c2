"""Plugin configs: a set of plugins that routes take by `plugin_config_id`."""

from __future__ import annotations

from shared.schema.common import Described
from shared.schema.plugins import Plugins


class PluginConfigSpec(Described):
    plugins: Plugins
