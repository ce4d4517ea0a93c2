"""Global rules: plugins that run for every request, besides those of its route.

The law: a plugin lives in one global rule only (the Admin API sees to that; it needs the other rules to know).
"""

from __future__ import annotations

from shared.schema.common import Described
from shared.schema.plugins import Plugins


class GlobalRuleSpec(Described):
    plugins: Plugins
