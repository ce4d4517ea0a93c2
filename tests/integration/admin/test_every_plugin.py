"""Every native plugin, as docs/native-plugins.md shows it: accepted by the Admin API, alone and with all others; compiled."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from shared.plugin.builtin import BUILTIN
from shared.plugin.registry import REFUSED
from tests.support.admin import Admin
from tests.support.command import ROOT
from tests.support.config import Config

UPSTREAM = {"nodes": {"127.0.0.1:1980": 1}}
# A route of the table: name, priority, what it does, example.
_ROW = re.compile(r"^\| `([a-z-]+)` \| -?\d+ \| .* \| `(\{.*\})` \|$", re.MULTILINE)
EXAMPLES: dict[str, Any] = {
    name: json.loads(example.replace("\\|", "|"))
    for name, example in _ROW.findall((ROOT / "docs/native-plugins.md").read_text())
}


def test_every_plugin_is_documented() -> None:
    assert EXAMPLES.keys() == {plugin.name for plugin in BUILTIN}


async def test_every_example_is_accepted(api: Admin) -> None:
    for consumer, auth in (("jack", {"key-auth": {"key": "one"}}), ("rose", {"key-auth": {"key": "two"}})):
        await api.ok("PUT", f"/consumers/{consumer}", {"username": consumer, "plugins": auth})
    for number, (name, conf) in enumerate(EXAMPLES.items()):
        route = {"uri": f"/{name}", "plugins": {name: conf}, "upstream": UPSTREAM}
        written = await api.ok("PUT", f"/routes/{number}", route)
        assert written["value"]["plugins"].keys() == {name}
    everything = {"uri": "/all", "plugins": EXAMPLES, "upstream": UPSTREAM}
    await api.ok("PUT", "/routes/all", everything)
    for kind in ("services", "plugin_configs", "global_rules"):
        await api.ok("PUT", f"/{kind}/all", {"plugins": EXAMPLES})


def test_a_worker_compiles_them_all_together() -> None:
    config = Config()
    config.put("routes", "1", {"uri": "/*", "plugins": EXAMPLES, "upstream": UPSTREAM})
    route = config.route("1")
    assert not config.compiler.problems
    assert {binding.name for binding in route.bindings} >= EXAMPLES.keys()
    assert route.program is not None
    config.host.close()


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_plugins_of_lua_are_refused_with_what_to_use_instead(api: Admin, name: str) -> None:
    route = {"uri": "/", "plugins": {name: {"functions": ["return function() end"]}}, "upstream": UPSTREAM}
    assert "write a Wasm plugin or a native plugin in Python instead" in await api.refused(400, "PUT", "/routes/1", route)


async def test_an_upstream_that_a_rule_names_has_to_be_there_and_to_stay(api: Admin) -> None:
    split = {"traffic-split": {"rules": [{"weighted_upstreams": [{"upstream_id": "u1"}]}]}}
    route = {"uri": "/", "plugins": split, "upstream": UPSTREAM}
    assert "upstream id [u1]" in await api.refused(400, "PUT", "/routes/1", route)
    await api.ok("PUT", "/upstreams/u1", UPSTREAM)
    await api.ok("PUT", "/routes/1", route)
    assert "route [1] is still using it now" in await api.refused(400, "DELETE", "/upstreams/u1")
    await api.ok("PUT", "/routes/1", {"uri": "/", "upstream": UPSTREAM})
    await api.ok("PUT", "/plugin_configs/p", {"plugins": split})
    assert "[p] is still using it now" in await api.refused(400, "DELETE", "/upstreams/u1")
    await api.ok("DELETE", "/plugin_configs/p")
    await api.ok("DELETE", "/upstreams/u1")
