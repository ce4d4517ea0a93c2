"""The whole configuration at once: read, validated, replaced; larger than one transaction, too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from control_plane.admin import batches
from control_plane.admin.example_ssl import example_ssl
from data_plane.config.whole import WholeSource
from shared.keys import BATCH_KEY, BATCH_PREFIX, CONFIG_PREFIX
from shared.store.contract import ConfigStore, Expect, Put
from shared.store.url import open_store
from shared.yaml_document import decode_yaml, encode_yaml
from tests.support.admin import NODES, Admin, admin
from tests.support.etcd import running_etcd

UPSTREAM = {"id": "u", **NODES}
ROUTE = {"id": "1", "uri": "/a", "upstream_id": "u"}
DOCUMENT: dict[str, Any] = {"routes": [ROUTE], "upstreams": [UPSTREAM]}


async def put(api: Admin, document: object, digest: str = "d1", query: str = "", status: int = 202) -> dict[str, Any]:
    response = await api.http.put(f"/configs{query}", json=document, headers={"X-Digest": digest})
    assert response.status_code == status, (response.status_code, response.text)
    answer: dict[str, Any] = response.json() if response.content else {}
    return answer


async def whole(api: Admin) -> dict[str, Any]:
    """Without versions."""
    return {name: value for name, value in (await api.ok("GET", "/configs")).items() if not name.endswith("_conf_version")}


async def test_a_put_replaces_everything_in_one_revision(api: Admin) -> None:
    await api.ok("PUT", "/upstreams/old", NODES)
    await api.ok("PUT", "/wasm_plugins/mine", {"priority": 1})

    done = await put(
        api,
        {
            **DOCUMENT,
            "consumers": [{"username": "jack"}],
            "credentials": [{"id": "jack/credentials/c", "plugins": {"key-auth": {"key": "k"}}}],
        },
    )
    indices = {
        item["modifiedIndex"]
        for kind in ("routes", "upstreams", "consumers")
        for item in (await api.ok("GET", f"/{kind}"))["list"]
    }
    read = await whole(api)

    assert (done["create"], done["delete"], done["replace"], done["unchanged"]) == (4, 1, 0, 0)
    assert indices == {done["revision"]}
    assert read["routes"] == [ROUTE]
    assert read["upstreams"] == [UPSTREAM]
    assert read["consumers"] == [{"username": "jack"}]
    assert read["credentials"][0]["id"] == "jack/c"
    assert read["wasm_plugins"] == [{"id": "mine", "priority": 1}]


async def test_what_is_read_and_written_again_changes_nothing(api: Admin) -> None:
    ssl = example_ssl("example.com")
    key = ssl["key"]
    await put(api, {**DOCUMENT, "ssls": [{"id": "s", **ssl}]})
    before = await api.store.revision()

    for kind in ("json", "yaml"):
        read = await api.http.get("/configs", headers={"Accept": f"application/{kind}"})
        assert key not in read.text
        headers = {"X-Digest": kind, "Content-Type": f"application/{kind}"}
        document = decode_yaml(read.content) if kind == "yaml" else read.json()
        for name in [name for name in document if name.endswith("_conf_version")]:
            del document[name]
        body = encode_yaml(document).encode() if kind == "yaml" else None
        again = await api.http.put("/configs?dry_run=true", content=body, json=None if body else document, headers=headers)
        assert again.json() | {"changes": []} == {
            "dry_run": True,
            "create": 0,
            "replace": 0,
            "delete": 0,
            "unchanged": 3,
            "changes": [],
        }

    assert await api.store.revision() == before


async def test_a_digest_that_is_known_is_204_while_it_is_true(api: Admin) -> None:
    await put(api, DOCUMENT)
    await put(api, DOCUMENT, status=204)
    read = await api.http.head("/configs")
    await api.ok("PATCH", "/routes/1", {"desc": "changed by another"})
    other = await api.http.get("/configs")
    done = await put(api, DOCUMENT)

    assert read.headers["X-Digest"] == "d1"
    assert "X-Last-Modified" in read.headers
    assert other.headers["X-Digest"] != "d1"
    assert (done["replace"], done["unchanged"]) == (1, 1)
    assert await api.refused(400, "PUT", "/configs", DOCUMENT) == "missing digest header"


async def test_versions_of_sections(api: Admin) -> None:
    await put(api, {**DOCUMENT, "routes_conf_version": 1000})
    kept = await put(api, {"routes": [], "routes_conf_version": 1000, "upstreams": [UPSTREAM]}, "d2")
    versions = await api.ok("GET", "/configs")
    message = (await put(api, {"routes": [], "routes_conf_version": 999}, "d3", status=400))["error_msg"]
    await put(api, {"upstreams": [UPSTREAM], "routes_conf_version": 1001}, "d4")

    assert kept["delete"] == 0
    assert versions["routes_conf_version"] == 1000
    assert message == "routes_conf_version must be greater than or equal to (1000)"
    assert "routes" not in await whole(api)


@pytest.mark.parametrize(
    ("prune", "routes", "upstreams"), [("all", None, ["new"]), ("sections", ["1"], ["new"]), ("none", ["1"], ["new", "spare"])]
)
async def test_what_a_document_lacks(api: Admin, prune: str, routes: list[str] | None, upstreams: list[str]) -> None:
    await put(api, {"routes": [{"id": "1", "uri": "/a", "upstream": NODES}], "upstreams": [{**NODES, "id": "spare"}]})

    await put(api, {"upstreams": [{**NODES, "id": "new"}]}, "d2", f"?prune={prune}")

    read = await whole(api)
    assert [item["id"] for item in read.get("routes", [])] == (routes or [])
    assert [item["id"] for item in read["upstreams"]] == upstreams


MISTAKES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"routes": [{"id": "1", "uri": 5, "upstream": NODES}]}, [("$.routes[0].uri", "wrong type")]),
    ({"upstreams": [UPSTREAM, UPSTREAM]}, [("$.upstreams[1]", "found duplicate id u in upstreams")]),
    ({"upstreams": [NODES, 5]}, [("$.upstreams[0]", "missing upstream id"), ("$.upstreams[1]", "expected object, got number")]),
    ({"routs": []}, [("$.routs", "unknown section")]),
    ({"routes": {}}, [("$.routes", "expected array, got object")]),
    ({"global_rules": [{"id": "1", "plugins": {"echo": {"x": 1}}}]}, [("$.global_rules[0].plugins.echo", "plugin echo")]),
    ({"plugin_metadata": [{"id": "nothing"}]}, [("$.plugin_metadata[0]", "invalid plugin name")]),
]  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), MISTAKES)
async def test_every_mistake_is_told_with_its_place(
    api: Admin, document: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    for verb, path in (("POST", "/configs/validate"), ("PUT", "/configs")):
        response = await api.http.request(verb, path, json=document, headers={"X-Digest": "d"})
        assert response.status_code == 400
        answer = response.json()
        assert answer["error_msg"] == "Configuration validation failed"
        assert [error["path"] for error in answer["errors"]] == [path for path, _ in expected]
        for error, (_, message) in zip(answer["errors"], expected, strict=True):
            assert message in error["error"]


async def test_references_are_looked_at_by_the_put_and_not_by_validate(api: Admin) -> None:
    alone = {"routes": [ROUTE]}

    assert await api.ok("POST", "/configs/validate", alone) == {}
    answer = await put(api, alone, status=400)
    assert [(error["path"], error["resource_id"]) for error in answer["errors"]] == [("$.routes[0]", "1")]
    assert "failed to fetch upstream info" in answer["errors"][0]["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "missing configurations"),
        (b"[]", "expected object, got array"),
        (b"routes: [", "while parsing a flow node"),
        (b"a: 1\na: 1", "duplicate key 'a' at line 2"),
    ],
)
async def test_what_is_no_document(api: Admin, content: bytes, message: str) -> None:
    headers = {"X-Digest": "d", "Content-Type": "application/yaml"}
    response = await api.http.put("/configs", content=content, headers=headers)
    assert response.status_code == 400
    assert message in response.json()["error_msg"]


def many(count: int, path: str = "x") -> dict[str, Any]:
    return {
        "routes": [{"id": str(n), "uri": f"/{path}/{n}", "upstream_id": "u"} for n in range(count)],
        "upstreams": [UPSTREAM],
    }


async def test_more_than_a_transaction_is_seen_at_once(api: Admin, store: ConfigStore) -> None:
    first = (await put(api, many(300)))["revision"]
    seen: list[int] = []

    async def watch(until: int) -> None:
        async for batch in WholeSource(store).watch(CONFIG_PREFIX, first + 1):
            seen.append(sum(event.key.startswith("/apisix/routes/") for event in batch.events))
            if batch.revision >= until:
                return

    second = await put(api, many(300, "y"), "d2")
    await watch(second["revision"])

    assert second["replace"] == 300
    assert [count for count in seen if count] == [300]
    assert {item["uri"][:3] for item in (await whole(api))["routes"]} == {"/y/"}
    assert not (await store.list(BATCH_PREFIX)).entries


async def test_a_batch_whose_maker_is_gone_is_completed_by_another(store: ConfigStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STALE_SECONDS", 0.2)
    async with admin(store) as api:
        await put(api, many(200))
        real, calls = store.transaction, 0

        async def dies(expect: Any, operations: Any) -> Any:  # noqa: ANN401 - the store's own
            nonlocal calls
            if any(isinstance(operation, Put) and b'"done":1' in operation.value for operation in operations):
                calls += 1
                await real(expect, operations)
                raise RuntimeError("killed")
            return await real(expect, operations)

        monkeypatch.setattr(store, "transaction", dies)
        response = await api.http.put("/configs", json=many(400, "y"), headers={"X-Digest": "d2"})
        assert response.status_code == 500
        assert calls == 1
        monkeypatch.setattr(store, "transaction", real)
        assert await store.get(BATCH_KEY) is not None

    async with asyncio.timeout(20), admin(store) as other:
        monkeypatch.setattr(batches, "STALE_SECONDS", 100)
        monkeypatch.setattr(batches, "PATIENCE_SECONDS", 0.1)
        message = await other.refused(503, "PUT", "/upstreams/new", NODES)
        assert message == "a change of the whole configuration is being made, try again later"
        monkeypatch.setattr(batches, "STALE_SECONDS", 0.2)
        monkeypatch.setattr(batches, "PATIENCE_SECONDS", 30)
        await other.ok("PUT", "/upstreams/new", NODES)
        assert {item["uri"][:3] for item in (await whole(other))["routes"]} == {"/y/"}
        assert len((await whole(other))["routes"]) == 400


async def test_a_batch_that_relied_on_what_changed_is_made_again(
    api: Admin, store: ConfigStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(api, many(200))
    real = store.transaction

    async def meddles(expect: Any, operations: Any) -> Any:  # noqa: ANN401 - the store's own
        if any(isinstance(operation, Put) and operation.key == BATCH_KEY for operation in operations):
            monkeypatch.setattr(store, "transaction", real)
            await api.ok("PATCH", "/routes/7", {"desc": "meanwhile"})
        return await real(expect, operations)

    monkeypatch.setattr(store, "transaction", meddles)
    await put(api, many(200, "y"), "d2")

    assert "desc" not in (await api.ok("GET", "/routes/7"))["value"]
    history = (await api.ok("GET", "/routes/7/history"))["list"]
    assert [version["value"].get("desc") for version in history[:2]] == [None, "meanwhile"]


async def test_a_batch_on_etcd(tmp_path: Path) -> None:
    async with running_etcd(tmp_path) as etcd, open_store(etcd.url) as store, admin(store) as api:
        first = (await put(api, many(150)))["revision"]
        second = await put(api, many(300, "y"), "d2")
        async for batch in WholeSource(store).watch(CONFIG_PREFIX, first + 1):
            changed = {event.key for event in batch.events if event.key.startswith("/apisix/routes/")}
            if changed:
                break

        assert (second["create"], second["replace"]) == (150, 150)
        assert len(changed) == 300
        assert batch.revision >= second["revision"]
        assert len((await whole(api))["routes"]) == 300


async def test_other_writes_wait_for_a_batch(api: Admin, store: ConfigStore) -> None:
    await put(api, many(200))
    results = await asyncio.gather(
        put(api, many(200, "y"), "d2"), *(api.ok("PUT", f"/upstreams/v{number}", NODES) for number in range(20))
    )
    assert len(results) == 21
    assert (await store.transaction((Expect(BATCH_KEY, 0),), ())).committed
