"""Which plugins a route runs."""

from __future__ import annotations

import pytest

from shared.plugin_merge import effective_plugins
from shared.schema.common import PluginConf


def conf(text: str, *, disable: bool = False) -> PluginConf:
    return PluginConf.model_validate({"conf": text, "_meta": {"disable": disable}})


OFF = conf("off", disable=True)


@pytest.mark.parametrize(
    ("route", "plugin_config", "service", "expected"),
    [
        (None, None, None, {}),
        ({"a": "r"}, {"a": "p"}, {"a": "s"}, {"a": "r"}),
        (None, {"a": "p"}, {"a": "s"}, {"a": "p"}),
        ({"a": "r"}, {"b": "p"}, {"c": "s"}, {"a": "r", "b": "p", "c": "s"}),
        ({"a": OFF}, None, {"a": "s", "b": "s"}, {"b": "s"}),
        ({"a": OFF}, {"a": "p"}, None, {}),
        (None, {"a": OFF}, {"a": "s"}, {}),
        ({"a": "r"}, {"a": OFF}, {"a": OFF}, {"a": "r"}),
    ],
)
def test_the_nearest_owner_wins_by_whole_name(
    route: dict[str, str | PluginConf] | None,
    plugin_config: dict[str, str | PluginConf] | None,
    service: dict[str, str | PluginConf] | None,
    expected: dict[str, str],
) -> None:
    def confs(plugins: dict[str, str | PluginConf] | None) -> dict[str, PluginConf] | None:
        if plugins is None:
            return None
        return {name: value if isinstance(value, PluginConf) else conf(value) for name, value in plugins.items()}

    effective = effective_plugins(confs(route), confs(plugin_config), confs(service))

    assert {name: value.conf for name, value in effective.items() if isinstance(value, PluginConf)} == expected
