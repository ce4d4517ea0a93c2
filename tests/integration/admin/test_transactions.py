"""Many objects in one revision, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.admin import NODES, Admin


def put(path: str, body: object, **more: object) -> dict[str, Any]:
    return {"method": "PUT", "path": path, "body": body, **more}


def delete(path: str, **more: object) -> dict[str, Any]:
    return {"method": "DELETE", "path": path, **more}


async def transact(api: Admin, *operations: dict[str, Any], query: str = "") -> dict[str, Any]:
    return await api.ok("POST", f"/transaction{query}", {"operations": list(operations)})


async def test_what_refers_to_each_other_comes_and_goes_at_once(api: Admin) -> None:
    made = await transact(
        api,
        put("/routes/1", {"uri": "/a", "service_id": "s"}),
        put("/apisix/admin/services/s", {"upstream_id": "u"}),
        put("/upstreams", {"id": "u", **NODES}),
        {"method": "POST", "path": "/upstreams", "body": NODES},
        {"method": "POST", "path": "/upstreams", "body": NODES},
        put("/secrets/vault/1", {"uri": "http://127.0.0.1:8200", "prefix": "kv", "token": "t"}),
    )
    keys = [result["key"] for result in made["results"]]
    modified = {(await api.ok("GET", key.removeprefix("/apisix")))["modifiedIndex"] for key in keys}
    patched = await transact(
        api,
        {"method": "PATCH", "path": "/routes/1", "body": {"name": "n", "uri": None, "uris": ["/b"]}},
        {"method": "PATCH", "path": "/upstreams/u/nodes/127.0.0.1%3A1981", "body": 2},
    )
    refused = await api.refused(400, "POST", "/transaction", {"operations": [delete("/upstreams/u"), delete("/routes/1")]})
    gone = await transact(api, delete("/upstreams/u"), delete("/routes/1"), delete("/services/s"))

    assert keys[:3] == ["/apisix/routes/1", "/apisix/services/s", "/apisix/upstreams/u"]
    assert len(set(keys)) == 6
    assert modified == {made["revision"]}
    assert [result["action"] for result in made["results"]] == ["create"] * 6
    assert "token" not in made["results"][5]["value"]
    assert patched["results"][0]["value"]["uris"] == ["/b"]
    assert patched["results"][1]["value"]["nodes"] == {"127.0.0.1:1980": 1, "127.0.0.1:1981": 2}
    assert refused == "operation 0: can not delete this upstream, service [s] is still using it now"
    assert [result["action"] for result in gone["results"]] == ["delete"] * 3


ROUTE = {"uri": "/a", "upstream": NODES}
NOTHING_CHANGED = {"method": "PATCH", "path": "/routes/2", "body": {}}
NO_POST = {"method": "POST", "path": "/consumers", "body": {}}
NOT_FOUND = "Key not found"
BAD: list[tuple[list[dict[str, Any]], int, list[tuple[int, str, str]]]] = [
    (
        [put("/routes/1", {"uri": 5, "upstream": NODES}), put("/upstreams/1", NODES), put("/routes/2", {"urii": "/a"})],
        400,
        [(0, "$.operations[0].body.uri", "wrong type"), (2, "$.operations[2].body", "additional properties forbidden")],
    ),
    (
        [put("/upstreams/1", NODES), put("/routes/1", {"uri": "/a", "upstream_id": "2"})],
        400,
        [(1, "$.operations[1].body", "failed to fetch upstream info by upstream id [2]")],
    ),
    ([delete("/routes/1"), NOTHING_CHANGED], 404, [(0, "$", NOT_FOUND), (1, "$", NOT_FOUND)]),
    ([delete("/routes/1"), put("/routs/1", {})], 404, [(1, "$", "Unsupported resource type: routs")]),
    ([put("/routes/1", ROUTE), put("/routes/1", ROUTE)], 400, [(1, "$", "written by another operation")]),
    ([put("/upstreams/1", NODES, if_match=7)], 412, [(0, "$", "modifiedIndex 7, but there is no such object")]),
    ([put("/upstreams/1", NODES), NO_POST], 405, [(1, "$", "not supported `POST`")]),
    ([put("/upstreams", NODES)], 400, [(0, "$", "missing upstream id")]),
    ([{"method": "PUT", "path": "/upstreams/1"}], 400, [(0, "$", "missing configurations")]),
    ([{"method": "POST", "path": "/upstreams/1", "body": NODES}], 404, [(0, "$", "not found")]),
    ([put("/upstreams/2", {**NODES, "id": "3"})], 400, [(0, "$", "wrong upstream id")]),
]  # fmt: skip


@pytest.mark.parametrize(("operations", "status", "mistakes"), BAD)
async def test_a_mistake_anywhere_writes_nothing(
    api: Admin, operations: list[dict[str, Any]], status: int, mistakes: list[tuple[int, str, str]]
) -> None:
    response = await api.call("POST", "/transaction", {"operations": operations})

    errors = response.json()["errors"]
    assert response.status_code == status, response.text
    assert [error["index"] for error in errors] == [index for index, _, _ in mistakes]
    for error, (_, path, message) in zip(errors, mistakes, strict=True):
        assert error["path"].startswith(path)
        assert message in error["message"]
    for kind in ("routes", "upstreams"):
        assert (await api.ok("GET", f"/{kind}"))["total"] == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'property "operations" is required'),
        ({"operations": []}, "expect array to have at least 1 items"),
        ({"operations": [{"method": "GET", "path": "/routes/1"}]}, "matches none of the enum values"),
        ({"operations": [{"method": "PUT", "path": "/routes/1", "value": {}}]}, "additional properties forbidden, found value"),
    ],
)
async def test_what_is_no_transaction(api: Admin, body: object, message: str) -> None:
    assert message in await api.refused(400, "POST", "/transaction", body)


async def test_more_than_a_transaction_of_the_store_holds_is_413(api: Admin) -> None:
    operations = [put(f"/upstreams/{number}", NODES) for number in range(129)]

    assert "up to 128" in await api.refused(413, "POST", "/transaction", {"operations": operations})
    assert (await api.ok("GET", "/upstreams"))["total"] == 0
    assert len((await transact(api, *operations[:127]))["results"]) == 127


async def test_transactions_that_meet_lose_nothing(api: Admin) -> None:
    names = [f"l{number}" for number in range(12)]
    await transact(api, *(put(f"/upstreams/{id}", NODES) for id in "abc"))

    def label(name: str) -> list[dict[str, Any]]:
        order = "abc" if int(name[1:]) % 2 else "cba"
        return [{"method": "PATCH", "path": f"/upstreams/{id}", "body": {"labels": {name: "x"}}} for id in order]

    await asyncio.gather(*(transact(api, *label(name)) for name in names))

    for id in "abc":
        assert set((await api.ok("GET", f"/upstreams/{id}"))["value"]["labels"]) == set(names)


async def test_a_dry_run_says_what_would_change(api: Admin) -> None:
    await api.ok("PUT", "/upstreams/u", NODES)
    before = await api.store.revision()

    told = await transact(
        api,
        put("/upstreams/u", {**NODES, "desc": "d"}),
        put("/routes/1", {"uri": "/a", "upstream_id": "u"}),
        query="?dry_run=true",
    )

    assert await api.store.revision() == before
    assert told["dry_run"] is True
    assert [(change["key"], change["action"]) for change in told["changes"]] == [
        ("/apisix/upstreams/u", "replace"),
        ("/apisix/routes/1", "create"),
    ]
    assert told["changes"][0]["differences"] == [{"path": "$.desc", "after": "d"}]
