"""What a document names must be there, and what is named stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.admin import NODES, Admin
from tests.support.guests import assemble

PLUGINS = {"p": {"conf": "x"}}
DISABLED = {"p": {"conf": "x", "_meta": {"disable": True}}}

MISSING: list[tuple[str, dict[str, Any], str]] = [
    ("/routes/1", {"uri": "/a", "upstream_id": "99"}, "failed to fetch upstream info by upstream id [99], response code: 404"),
    ("/routes/1", {"uri": "/a", "upstream_id": 99}, "failed to fetch upstream info by upstream id [99], response code: 404"),
    ("/routes/1", {"uri": "/a", "service_id": "99"}, "failed to fetch service info by service id [99], response code: 404"),
    (
        "/routes/1",
        {"uri": "/a", "upstream": NODES, "plugin_config_id": "99"},
        "failed to fetch plugin config info by plugin config id [99], response code: 404",
    ),
    ("/services/1", {"upstream_id": "99"}, "failed to fetch upstream info by upstream id [99], response code: 404"),
    ("/routes/1", {"uri": "/a", "plugins": PLUGINS}, "unknown plugin [p]"),
    ("/routes/1", {"uri": "/a", "plugins": DISABLED}, "unknown plugin [p]"),
    ("/services/1", {"plugins": PLUGINS}, "unknown plugin [p]"),
    ("/plugin_configs/1", {"plugins": PLUGINS}, "unknown plugin [p]"),
    ("/global_rules/1", {"plugins": PLUGINS}, "unknown plugin [p]"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "document", "message"), MISSING)
async def test_what_is_named_must_be_there(api: Admin, path: str, document: dict[str, Any], message: str) -> None:
    assert await api.refused(400, "PUT", path, document) == message
    assert (await api.call("GET", path)).status_code == 404


async def test_post_and_patch_are_checked_as_well(api: Admin) -> None:
    await api.ok("PUT", "/routes/1", {"uri": "/a", "upstream": NODES})

    missing = "failed to fetch upstream info by upstream id [9], response code: 404"
    assert await api.refused(400, "POST", "/routes", {"uri": "/a", "upstream_id": 9}) == missing
    assert await api.refused(400, "PATCH", "/routes/1", {"upstream_id": 9}) == missing
    assert await api.refused(400, "PATCH", "/routes/1/plugins/p", {"conf": "x"}) == "unknown plugin [p]"


# target, its user, the user's document, the words between "can not delete this" and "is still using it now"
IN_USE: list[tuple[str, str, dict[str, Any], str]] = [
    ("/upstreams/t", "/routes/1", {"uri": "/a", "upstream_id": "t"}, "upstream, route [1]"),
    ("/upstreams/t", "/services/1", {"upstream_id": "t"}, "upstream, service [1]"),
    ("/services/t", "/routes/1", {"uri": "/a", "service_id": "t"}, "service directly, route [1]"),
    ("/plugin_configs/t", "/routes/1", {"uri": "/a", "upstream": NODES, "plugin_config_id": "t"}, "plugin config, route [1]"),
    ("/wasm_plugins/p", "/routes/1", {"uri": "/a", "plugins": PLUGINS}, "wasm plugin, route [1]"),
    ("/wasm_plugins/p", "/routes/1", {"uri": "/a", "plugins": DISABLED}, "wasm plugin, route [1]"),
    ("/wasm_plugins/p", "/services/1", {"plugins": PLUGINS}, "wasm plugin, service [1]"),
    ("/wasm_plugins/p", "/plugin_configs/1", {"plugins": PLUGINS}, "wasm plugin, plugin_config [1]"),
    ("/wasm_plugins/p", "/global_rules/1", {"plugins": PLUGINS}, "wasm plugin, global_rule [1]"),
]  # fmt: skip

TARGETS: dict[str, dict[str, Any]] = {"upstreams": NODES, "services": {}, "plugin_configs": {"plugins": {}}}


@pytest.mark.parametrize(("target", "user", "document", "words"), IN_USE)
async def test_what_is_named_stays(api: Admin, target: str, user: str, document: dict[str, Any], words: str) -> None:
    kind = target.split("/")[1]
    if kind == "wasm_plugins":
        await api.upload("p", assemble())
    else:
        await api.ok("PUT", target, TARGETS[kind])
    await api.ok("PUT", user, document)

    message = f"can not delete this {words} is still using it now"
    assert await api.refused(400, "DELETE", target) == message
    assert await api.refused(400, "DELETE", f"{target}?force=1") == message
    await api.ok("DELETE", f"{target}?force=true")
    await api.ok("DELETE", user)


async def test_an_id_that_is_part_of_another_is_not_in_use(api: Admin) -> None:
    await api.ok("PUT", "/upstreams/1", NODES)
    await api.ok("PUT", "/upstreams/11", NODES)
    await api.ok("PUT", "/routes/1", {"uri": "/1", "upstream_id": "11"})

    await api.ok("DELETE", "/upstreams/1")


async def test_a_plugin_lives_in_one_global_rule(api: Admin) -> None:
    await api.upload("p", assemble())
    await api.upload("q", assemble())
    await api.ok("PUT", "/global_rules/1", {"plugins": PLUGINS})
    await api.ok("PUT", "/global_rules/1", {"plugins": PLUGINS, "desc": "again"})

    message = await api.refused(400, "PUT", "/global_rules/2", {"plugins": {"q": {"conf": "x"}, **PLUGINS}})
    assert message == "plugin 'p' already exists in global rule with id '1'"
    await api.ok("PUT", "/global_rules/2", {"plugins": {"q": {"conf": "x"}}})
    assert "already exists" in await api.refused(400, "PATCH", "/global_rules/2", {"plugins": PLUGINS})


async def test_a_plugin_without_a_module_can_not_be_bound(api: Admin) -> None:
    await api.ok("PUT", "/wasm_plugins/p", {"priority": 1})

    message = await api.refused(400, "PUT", "/routes/1", {"uri": "/a", "plugins": PLUGINS})
    assert message == "plugin [p] has no module yet: upload one with PUT /apisix/admin/wasm_plugins/p/module"
    await api.ok("PUT", "/routes/1", {"uri": "/a", "plugins": DISABLED})
    await api.upload("p", assemble())
    await api.ok("PUT", "/routes/1", {"uri": "/a", "plugins": PLUGINS})


async def test_a_bound_plugin_keeps_its_module(api: Admin) -> None:
    await api.upload("p", assemble())
    await api.ok("PUT", "/routes/1", {"uri": "/a", "plugins": PLUGINS})

    message = await api.refused(400, "PATCH", "/wasm_plugins/p", {"module": None})
    assert message == "can not take the module from this wasm plugin, route [1] is still using it now"
    await api.ok("PUT", "/routes/1", {"uri": "/a", "plugins": DISABLED})
    assert "module" not in (await api.ok("PATCH", "/wasm_plugins/p", {"module": None}))["value"]


async def test_a_reference_and_a_deletion_at_once_never_leave_it_dangling(api: Admin) -> None:
    for round_ in range(10):
        await api.ok("PUT", "/upstreams/u", NODES)
        answers = await asyncio.gather(
            api.call("DELETE", "/upstreams/u"),
            *(api.call("PUT", f"/routes/{n}", {"uri": "/a", "upstream_id": "u"}) for n in range(3)),
            api.call("DELETE", "/upstreams/u"),
        )
        assert {answer.status_code for answer in answers} <= {200, 201, 400, 404}, round_
        routes = (await api.ok("GET", "/routes"))["total"]
        assert routes == 0 or (await api.call("GET", "/upstreams/u")).status_code == 200, round_
        for number in range(3):
            await api.call("DELETE", f"/routes/{number}")
        await api.call("DELETE", "/upstreams/u")


async def test_two_global_rules_at_once_never_share_a_plugin(api: Admin) -> None:
    await api.upload("p", assemble())
    for _ in range(5):
        answers = await asyncio.gather(*(api.call("PUT", f"/global_rules/{n}", {"plugins": PLUGINS}) for n in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 400, 400, 400]
        for number in range(4):
            await api.call("DELETE", f"/global_rules/{number}")
