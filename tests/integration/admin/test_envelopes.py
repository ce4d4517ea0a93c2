"""Reading and writing every kind: envelopes, status codes, ids, timestamps, revisions."""

from __future__ import annotations

from typing import Any

import pytest

from shared.store.contract import ConfigStore
from tests.support.admin import NODES, Admin, admin

# A document of each kind that refers to nothing, and a second one to replace it with.
DOCUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "routes": ({"uri": "/a", "upstream": NODES}, {"uri": "/b", "upstream": NODES}),
    "services": ({"upstream": NODES}, {"upstream": NODES, "name": "s"}),
    "upstreams": (NODES, {**NODES, "desc": "d"}),
    "plugin_configs": ({"plugins": {}}, {"plugins": {}, "desc": "d"}),
    "global_rules": ({"plugins": {}}, {"plugins": {}, "desc": "d"}),
    "wasm_plugins": ({"priority": 1}, {"priority": 2}),
}
POSTED = ["routes", "services", "upstreams"]


@pytest.fixture(params=DOCUMENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_the_life_of_an_object(store: ConfigStore, kind: str) -> None:
    first, second = DOCUMENTS[kind]
    now = [1000.9]
    async with admin(store, clock=lambda: now[0]) as api:
        empty = await api.ok("GET", f"/{kind}")
        created = await api.call("PUT", f"/{kind}/x-1.y_Z", first)
        now[0] = 2000.5
        replaced = await api.call("PUT", f"/{kind}/x-1.y_Z", second)
        one = await api.ok("GET", f"/{kind}/x-1.y_Z")
        all_ = await api.ok("GET", f"/{kind}")
        deleted = await api.call("DELETE", f"/{kind}/x-1.y_Z")
        gone = [await api.call(verb, f"/{kind}/x-1.y_Z", {"desc": "d"}) for verb in ("GET", "DELETE", "PATCH")]

    key = f"/apisix/{kind}/x-1.y_Z"
    assert empty == {"total": 0, "list": []}
    assert created.status_code == 201
    assert created.json() == {
        "key": key,
        "value": {**first, "id": "x-1.y_Z", "create_time": 1000, "update_time": 1000},
    }
    assert replaced.status_code == 200
    value = {**second, "id": "x-1.y_Z", "create_time": 1000, "update_time": 2000}
    assert replaced.json() == {"key": key, "value": value}
    revisions = [int(response.headers["X-Waspgate-Revision"]) for response in (created, replaced, deleted)]
    assert revisions == sorted(set(revisions))
    assert one == {"key": key, "value": value, "createdIndex": revisions[0], "modifiedIndex": revisions[1]}
    assert all_ == {"total": 1, "list": [one]}
    assert (deleted.status_code, deleted.json()) == (200, {"deleted": "1", "key": key})
    for response in gone:
        assert (response.status_code, response.json()) == (404, {"message": "Key not found"})


@pytest.mark.parametrize("kind", POSTED)
async def test_post_gives_an_id(api: Admin, kind: str) -> None:
    response = await api.call("POST", f"/{kind}", DOCUMENTS[kind][0])

    assert response.status_code == 201
    value = response.json()["value"]
    assert len(value["id"]) == 20
    assert value["id"].isdecimal()
    assert int(value["id"]) == int(response.headers["X-Waspgate-Revision"])
    assert (await api.ok("GET", f"/{kind}/{value['id']}"))["value"] == value


@pytest.mark.parametrize("kind", sorted(set(DOCUMENTS) - set(POSTED)))
async def test_post_is_blocked_where_ids_are_names(api: Admin, kind: str) -> None:
    message = await api.refused(405, "POST", f"/{kind}", DOCUMENTS[kind][0])

    assert message == f"not supported `POST` method for {kind.removesuffix('s')}"


async def test_the_id_may_stand_in_the_body(api: Admin, kind: str) -> None:
    document = DOCUMENTS[kind][0]
    singular = kind.removesuffix("s")

    by_body = await api.ok("PUT", f"/{kind}", {**document, "id": 7})
    both = await api.ok("PUT", f"/{kind}/7", {**document, "id": "7"})

    assert by_body["value"]["id"] == both["value"]["id"] == "7"
    assert await api.refused(400, "PUT", f"/{kind}/8", {**document, "id": "7"}) == f"wrong {singular} id"
    assert await api.refused(400, "PUT", f"/{kind}", document) == f"missing {singular} id"
    assert await api.refused(400, "PATCH", f"/{kind}", document) == f"missing {singular} id"
    assert await api.refused(400, "DELETE", f"/{kind}") == f"missing {singular} id"


async def test_post_takes_no_id(api: Admin) -> None:
    document = {**DOCUMENTS["routes"][0], "id": "1"}

    assert await api.refused(400, "POST", "/routes", document) == "wrong route id, do not need it"


@pytest.mark.parametrize("name", ["create_time", "update_time"])
async def test_timestamps_are_ours(api: Admin, kind: str, name: str) -> None:
    document = DOCUMENTS[kind][0]
    await api.ok("PUT", f"/{kind}/1", document)

    for verb, body in (("PUT", {**document, name: 5}), ("PATCH", {name: 5})):
        assert await api.refused(400, verb, f"/{kind}/1", body) == f"the property is forbidden:  {name}"


async def test_every_response_says_who_speaks(api: Admin) -> None:
    for verb, path in (("GET", "/routes"), ("GET", "/routes/1"), ("GET", "/nothing"), ("PUT", "/routes/1")):
        response = await api.call(verb, path)
        assert response.headers["content-type"] == "application/json"
        assert response.headers["server"].startswith("waspgate/")
        assert response.headers["x-api-version"] == "v3"


async def test_patch_merges_and_a_sub_path_sets(api: Admin) -> None:
    await api.ok("PUT", "/upstreams/1", {"nodes": {"a:1": 1, "b:1": 1}, "labels": {"x": "1", "y": "2"}})

    merged = await api.ok("PATCH", "/upstreams/1", {"nodes": {"c:1": 2, "a:1": None}, "desc": "d"})
    set_ = await api.ok("PATCH", "/upstreams/1/labels", {"z": "3"})
    removed = await api.ok("PATCH", "/upstreams/1/desc", content=b"null")
    one = await api.ok("PATCH", "/upstreams/1/nodes/b:1", 5)
    as_list = await api.ok("PATCH", "/upstreams/1", {"nodes": [{"host": "d", "weight": 1}]})
    whole = await api.ok("PATCH", "/upstreams/1/", NODES)

    assert merged["value"]["nodes"] == {"b:1": 1, "c:1": 2}
    assert set_["value"]["labels"] == {"z": "3"}
    assert "desc" not in removed["value"]
    assert one["value"]["nodes"] == {"b:1": 5, "c:1": 2}
    assert as_list["value"]["nodes"] == [{"host": "d", "weight": 1}]
    assert {name: whole["value"][name] for name in whole["value"] if not name.endswith("_time")} == {**NODES, "id": "1"}
    assert (await api.ok("GET", "/upstreams/1"))["value"] == whole["value"]


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/upstreams/1", b"", "missing new configuration"),
        ("/upstreams/1", b"[]", "wrong type: expected object, got []"),
        ("/upstreams/1", b'{"nodes":5}', "wrong type: expected array or object, got number"),
        ("/upstreams/1", b'{"nodes":null}', 'property "nodes" is required'),
        ("/upstreams/1", b'{"id":"2"}', "wrong upstream id"),
        ("/upstreams/1/id", b'"2"', "wrong upstream id"),
        ("/upstreams/1/type/x", b"1", "invalid sub-path: /type/x"),
        ("/upstreams/1/", b"[]", "expected object, got array"),
        ("/upstreams/1/nodes", b"", "missing new configuration"),
        ("/upstreams/1" + "/a" * 65, b"1", "invalid sub-path: /a/a"),
        ("/upstreams/1" + "/a" * 5000, b"1", "invalid sub-path: /a/a"),
        ("/upstreams/1" + "/a" * 40, b"[" * 40 + b"]" * 40, "nested deeper than 64 levels"),
    ],
)
async def test_a_patch_that_fits_nothing_changes_nothing(api: Admin, path: str, content: bytes, message: str) -> None:
    await api.ok("PUT", "/upstreams/1", {**NODES, "type": "roundrobin"})
    before = await api.ok("GET", "/upstreams/1")

    assert message in await api.refused(400, "PATCH", path, content=content)
    assert await api.ok("GET", "/upstreams/1") == before


async def test_what_another_tool_wrote_can_be_seen_replaced_and_deleted(api: Admin, store: ConfigStore) -> None:
    await store.put("/apisix/plugin_configs/", b"init_dir")
    await store.put("/apisix/plugin_configs/1", b"broken")
    # Where an object may hold secrets, what is no object may be one: it is there, and not shown.
    await store.put("/apisix/routes/1", b"broken")

    listed = await api.ok("GET", "/plugin_configs")
    one = await api.ok("GET", "/plugin_configs/1")
    hidden = await api.ok("GET", "/routes/1")
    replaced = [await api.call("PUT", f"/{kind}/1", DOCUMENTS[kind][0]) for kind in ("plugin_configs", "routes")]

    assert listed["list"] == [one]
    assert (one["value"], hidden["value"]) == ("broken", None)
    assert [response.status_code for response in replaced] == [200, 200]


async def test_ttl_lets_an_object_expire(api: Admin) -> None:
    await api.ok("PUT", "/routes/1?ttl=1", DOCUMENTS["routes"][0])
    await api.ok("PUT", "/routes/2?ttl=1000", DOCUMENTS["routes"][0])

    entries = {item["key"] for item in (await api.ok("GET", "/routes"))["list"]}
    assert entries == {"/apisix/routes/1", "/apisix/routes/2"}
    entry = await api.store.get("/apisix/routes/1")
    assert entry is not None
    assert entry.lease


@pytest.mark.parametrize(
    ("ttl", "message"),
    [
        ("x", "invalid argument ttl: should be a number"),
        ("", "invalid argument ttl: should be a number"),
        ("0", "invalid argument ttl: expected 1 to 315360000 seconds, got 0"),
        ("-5", "invalid argument ttl: expected 1 to 315360000 seconds, got -5"),
    ],
)
async def test_a_ttl_that_makes_no_sense(api: Admin, ttl: str, message: str) -> None:
    assert await api.refused(400, "PUT", f"/routes/1?ttl={ttl}", DOCUMENTS["routes"][0]) == message
