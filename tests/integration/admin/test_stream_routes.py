"""Stream routes in the Admin API: verbs, references, filters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.admin import NODES, Admin
from tests.support.guest import assemble

TO = {"upstream": NODES}


async def test_their_life(api: Admin) -> None:
    created = await api.call("PUT", "/stream_routes/1", {"server_port": 9100, **TO})
    assert (created.status_code, created.json()["key"]) == (201, "/apisix/stream_routes/1")
    assert (await api.call("PUT", "/stream_routes/1", {"server_port": 9101, **TO})).status_code == 200
    assert (await api.call("POST", "/stream_routes", TO)).status_code == 201
    assert (await api.call("GET", "/stream_routes")).json()["total"] == 2
    assert (await api.call("GET", "/stream_routes/1")).json()["value"]["server_port"] == 9101
    assert (await api.call("GET", "/schema/stream_route")).status_code == 200
    assert (await api.call("DELETE", "/stream_routes/1")).json() == {"deleted": "1", "key": "/apisix/stream_routes/1"}


@pytest.mark.parametrize("path", ["/stream_routes/1", "/stream_routes/1/server_port", "/stream_routes"])
async def test_they_are_not_patched(api: Admin, path: str) -> None:
    """As in APISIX."""
    await api.ok("PUT", "/stream_routes/1", TO)
    assert await api.refused(405, "PATCH", path, {"server_port": 1}) == "not supported `PATCH` method for stream_route"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"upstream_id": 9}, "failed to fetch upstream info by upstream id [9], response code: 404"),
        ({"service_id": "9"}, "failed to fetch service info by service id [9], response code: 404"),
        ({**TO, "plugins": {"nobody": {"conf": "x"}}}, "unknown plugin [nobody]"),
    ],
)
async def test_what_they_name_must_be_there(api: Admin, document: dict[str, Any], message: str) -> None:
    assert await api.refused(400, "PUT", "/stream_routes/1", document) == message


async def test_what_they_name_stays(api: Admin) -> None:
    await api.ok("PUT", "/upstreams/u", NODES)
    await api.ok("PUT", "/services/s", {})
    await api.upload("p", assemble(""))
    await api.ok("PUT", "/stream_routes/1", {"upstream_id": "u", "service_id": "s", "plugins": {"p": {"conf": "x"}}})
    for path, words in (
        ("/upstreams/u", "upstream,"),
        ("/services/s", "service directly,"),
        ("/wasm_plugins/p", "wasm plugin,"),
    ):
        message = await api.refused(400, "DELETE", path)
        assert message == f"can not delete this {words} stream_route [1] is still using it now"


async def test_they_are_filtered_by_what_they_name(api: Admin) -> None:
    for id in ("u", "v"):
        await api.ok("PUT", f"/upstreams/{id}", NODES)
        await api.ok("PUT", f"/stream_routes/{id}", {"upstream_id": id})
    listed = (await api.call("GET", "/stream_routes?filter=upstream_id%3Dv")).json()
    assert [item["value"]["id"] for item in listed["list"]] == ["v"]
