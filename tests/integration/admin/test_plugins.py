"""Native plugins in the Admin API: which there are, what they take, and what is said of what they do not take."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from shared.plugin.registry import Registry, registry
from tests.support.admin import Admin

UPSTREAM = {"nodes": {"127.0.0.1:1980": 1}}


async def test_the_list_has_native_and_wasm_plugins_by_priority(api: Admin) -> None:
    await api.ok("PUT", "/wasm_plugins/between", {"priority": 3500})
    names = list(await api.ok("GET", "/plugins/list"))
    assert names[:2] == ["real-ip", "client-control"]
    assert names.index("cors") < names.index("between") < names.index("ip-restriction") < names.index("proxy-rewrite")
    assert list(await api.ok("GET", "/plugins/list?subsystem=stream")) == ["between"]
    assert "unsupported subsystem: x" in await api.refused(400, "GET", "/plugins/list?subsystem=x")


async def test_each_has_a_schema(api: Admin) -> None:
    for name in registry().plugins:
        schema = await api.ok("GET", f"/plugins/{name}")
        assert schema["type"] == "object"
        assert set(schema["properties"]["_meta"]["properties"]) >= {"disable", "priority", "filter", "error_response"}
        assert await api.ok("GET", f"/schema/plugins/{name}") == schema


async def test_other_schemas(api: Admin) -> None:
    assert "https_port" in (await api.ok("GET", "/plugins/redirect?schema_type=metadata"))["properties"]
    assert await api.ok("GET", "/plugins/cors?schema_type=consumer") == {}
    await api.ok("PUT", "/wasm_plugins/mine", {})
    assert "conf" in (await api.ok("GET", "/plugins/mine"))["properties"]
    assert "plugin not found in subsystem http" in await api.refused(404, "GET", "/plugins/nobody")
    assert "plugin not found in subsystem stream" in await api.refused(404, "GET", "/plugins/cors?subsystem=stream")
    assert "schema_type" in await api.refused(400, "GET", "/plugins/cors?schema_type=x")
    everything = await api.ok("GET", "/plugins?all=true")
    assert everything["cors"] | {"schema": 0, "metadata_schema": 0} == {
        "version": "0.1",
        "priority": 4000,
        "type": "",
        "scope": "global",
        "schema": 0,
        "metadata_schema": 0,
    }


async def test_a_native_plugin_needs_no_resource_of_its_own(api: Admin) -> None:
    plugins = {"cors": {}, "proxy-rewrite": {"uri": "/x", "_meta": {"filter": [["arg_a", "==", "1"]], "error_response": "no"}}}
    written = await api.ok("PUT", "/routes/1", {"uri": "/", "plugins": plugins, "upstream": UPSTREAM})
    # Defaults are not written into the document.
    assert written["value"]["plugins"] == plugins


@pytest.mark.parametrize(
    ("plugins", "text"),
    [
        ({"nobody": {"conf": "x"}}, "unknown plugin [nobody]"),
        ({"cors": 5}, "invalid plugin conf 5 for plugin [cors]"),
        (
            {"cors": {"max_age": "x"}},
            'failed to check the configuration of plugin cors err: property "max_age" validation failed',
        ),
        ({"cors": {"_meta": {"priority": "x"}}}, 'property "_meta" validation failed: property "priority"'),
        ({"cors": {"_meta": {"filter": [["a", "=", 1]]}}}, "failed to validate the 'vars' expression: invalid operator '='"),
        ({"cors": {"_meta": {"filter": [["post_arg_a", "==", "1"]]}}}, "request's body"),
        ({"cors": {"_meta": {"error_response": 5}}}, "wrong type: expected string or object"),
        ({"serverless-pre-function": {"functions": ["return function() end"]}}, "write a Wasm plugin or a native plugin"),
        ({"serverless-post-function": {}}, "its configuration is code in Lua"),
    ],
)
async def test_refused(api: Admin, plugins: dict[str, object], text: str) -> None:
    message = await api.refused(400, "PUT", "/routes/1", {"uri": "/", "plugins": plugins, "upstream": UPSTREAM})
    assert text in message


async def test_what_is_for_http_only_is_not_for_streams(api: Admin) -> None:
    document = {"server_port": 9100, "plugins": {"cors": {}}, "upstream": UPSTREAM}
    assert "plugin [cors] is for HTTP" in await api.refused(400, "PUT", "/stream_routes/1", document)


async def test_a_wasm_plugin_cannot_take_a_native_plugins_name(api: Admin) -> None:
    assert "that of a native plugin" in await api.refused(400, "PUT", "/wasm_plugins/cors", {})


async def test_a_native_plugin_lives_in_one_global_rule(api: Admin) -> None:
    await api.ok("PUT", "/global_rules/1", {"plugins": {"cors": {}}})
    message = await api.refused(400, "PUT", "/global_rules/2", {"plugins": {"cors": {}}})
    assert "plugin 'cors' already exists in global rule with id '1'" in message


async def test_metadata_is_what_the_plugin_says(api: Admin) -> None:
    await api.ok("PUT", "/plugin_metadata/redirect", {"https_port": 8443})
    assert (await api.ok("GET", "/plugin_metadata/redirect"))["value"]["https_port"] == 8443
    assert 'property "https_port" validation' in await api.refused(400, "PUT", "/plugin_metadata/redirect", {"https_port": 0})
    assert 'did you mean "https_port"?' in await api.refused(400, "PUT", "/plugin_metadata/redirect", {"https_prt": 1})
    assert "invalid plugin name" in await api.refused(400, "PUT", "/plugin_metadata/nobody", {})
    assert "takes no metadata" in await api.refused(400, "PUT", "/plugin_metadata/echo", {})
    await api.ok("DELETE", "/plugin_metadata/redirect")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("x", "nowhere.to.be:Found", "cannot be loaded from nowhere.to.be:Found"),
        ("x", "shared.plugin.reply:Reply", "expected a subclass of shared.plugin.Plugin"),
        ("x", "shared.plugin.builtin.cors:Cors", "its name is 'cors'"),
        ("cors", "shared.plugin.builtin.cors:Cors", "another plugin has this name"),
        ("x", "shared.plugin:Plugin", "its name is None"),
    ],
)
def test_a_package_that_is_broken_takes_nothing_with_it(name: str, value: str, text: str) -> None:
    found = Registry(registry().plugins.values(), [EntryPoint(name, value, "waspgate.plugins")])
    assert list(found.plugins) == list(registry().plugins)
    assert text in found.broken[name]
