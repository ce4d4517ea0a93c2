"""Who is refused, and what: keys, bodies, unknown paths, and a store that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from control_plane.app import create_app
from shared.store.contract import ConfigStore, StoreUnavailable, TooLarge
from tests.support.admin import KEY, NODES, Admin, admin

ROUTE = {"uri": "/a", "upstream": NODES}


def operations(api: Admin) -> list[tuple[str, str]]:
    """Every (verb, path) of the OpenAPI document, with parameters filled in."""
    return [
        (verb.upper(), path.format(id="1", sub_path="a/b", kind="route", manager="vault", name="echo", username="jack"))
        for path, verbs in api.app.openapi()["paths"].items()
        for verb in verbs
    ]


@pytest.mark.parametrize(
    ("headers", "description"),
    [
        ({}, "missing apikey"),
        ({"X-API-KEY": ""}, "missing apikey"),
        ({"X-API-KEY": KEY[:-1]}, "wrong apikey"),
        ({"X-API-KEY": "schl\xfcssel"}, "wrong apikey"),
        ({"Authorization": f"Bearer {KEY}"}, "missing apikey"),
    ],
)
async def test_nothing_is_open_without_the_key(api: Admin, headers: dict[str, str], description: str) -> None:
    everything = operations(api)
    assert len(everything) > 40
    asked = [*everything, ("GET", "/apisix/admin/nothing"), ("POST", "/apisix/admin/plugin_configs")]
    for number, (verb, path) in enumerate(asked):
        # Wrong keys are counted by address.
        transport = httpx.ASGITransport(api.app, client=(f"10.0.{number // 200}.{number % 200}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            request = client.build_request(verb, path, content=b"{", headers=httpx.Headers(headers, "latin-1"))
            response = await client.send(request)
            assert response.status_code == 401, (verb, path)
            assert response.json() == {"error_msg": "failed to check token", "description": description}


async def test_what_is_open_reveals_nothing(api: Admin) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://admin") as client:
        alive = await client.head("/apisix/admin")
        page = await client.get("/apisix/admin/docs")
        document = (await client.get("/apisix/admin/openapi.json")).json()

    assert (alive.status_code, page.status_code) == (200, 200)
    schemas = document["components"]["schemas"]
    assert {"RouteSpec", "ServiceSpec", "UpstreamSpec", "WasmPluginSpec", "Error", "ModuleReport"} <= set(schemas)
    assert KEY not in str(document)


def test_openapi_refers_to_nothing_that_is_not_there(store: ConfigStore) -> None:
    document = create_app(store, keys=[KEY]).openapi()

    def references(node: Any) -> set[str]:  # noqa: ANN401 - any JSON value
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
    body = document["paths"]["/apisix/admin/routes/{id}"]["put"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/RouteSpec"}


@pytest.mark.parametrize("keys", [[], [""]])
def test_there_is_no_default_key(store: ConfigStore, keys: list[str]) -> None:
    with pytest.raises(ValueError, match="an admin key is needed"):
        create_app(store, keys=keys)


BODIES: list[tuple[bytes, str]] = [
    (b"", "missing"),
    (b"{", "invalid request body: Expecting property name"),
    (b"\xff\xfe", "invalid request body: not UTF-8"),
    (b"nul", "invalid request body: Expecting value at line 1 column 1"),
    (b'{"uri":"/a","uri":"/b"}', 'invalid request body: duplicate key "uri"'),
    (b"[" * 10_000, "invalid request body: nested"),
    (b"{}" + b" " * 1_572_864, "invalid request body: request size 1572866 is greater than the maximum size 1572864 allowed"),
    (b"NaN", "invalid request body: NaN is not JSON"),
]  # fmt: skip


async def test_bad_bodies_everywhere(api: Admin) -> None:
    await api.ok("PUT", "/routes/1", ROUTE)
    # A module is no JSON, a rollback needs no body, a whole configuration may be larger; they have tests of their own.
    others = ("/module", "/rollback", "/configs", "/configs/validate")
    written = [(v, p) for v, p in operations(api) if v in ("PUT", "POST", "PATCH") and not p.endswith(others)]
    for verb, path in written:
        for body, message in BODIES:
            relative = path.removeprefix("/apisix/admin")
            answer = await api.refused(400, verb, relative, content=body)
            assert message in answer, (verb, path, body[:20])


@pytest.mark.parametrize("body", [b"null", b'"text"', b"12", b"true", b"[]", b"[{}]", b"1.5"])
async def test_bodies_that_are_no_object_are_400(api: Admin, body: bytes) -> None:
    for verb, path in operations(api):
        if verb in ("PUT", "POST") and not path.endswith("/module"):
            relative = path.removeprefix("/apisix/admin")
            answer = await api.refused(400, verb, relative, content=body)
            assert "wrong type: expected object" in answer or "missing" in answer, (verb, path)


async def test_a_refusal_lists_each_mistake_with_its_path(api: Admin) -> None:
    response = await api.call("PUT", "/routes/1", {"uri": 5, "upstream": {"nodes": [{"host": "a", "weight": "x"}]}})

    assert response.status_code == 400
    assert response.json() == {
        "error_msg": 'invalid configuration: property "uri" validation failed: wrong type: expected string, got number; '
        'property "upstream" validation failed: property "nodes" validation failed: failed to validate item 1: '
        'property "weight" validation failed: wrong type: expected integer, got string',
        "errors": [
            {
                "path": "$.uri",
                "message": 'property "uri" validation failed: wrong type: expected string, got number',
            },
            {
                "path": "$.upstream.nodes[0].weight",
                "message": 'property "upstream" validation failed: property "nodes" validation failed: '
                'failed to validate item 1: property "weight" validation failed: '
                "wrong type: expected integer, got string",
            },
        ],
    }


@pytest.mark.parametrize("uri", ["/a/../b", "/a?b", "/a#b", "/100%", "/a\0", "/:id*", "/a/..;/b"])
async def test_a_path_that_no_worker_could_serve_is_refused_with_its_place(api: Admin, uri: str) -> None:
    response = await api.call("PUT", "/routes/1", {"uris": ["/good", uri], "upstream": NODES})

    assert response.status_code == 400
    (mistake,) = response.json()["errors"]
    assert mistake["path"] == "$.uris[1]"
    assert f"path {uri!r}" in mistake["message"]


async def test_malformed_json_is_shown_back(api: Admin) -> None:
    response = await api.call("PUT", "/routes/1", content=b'{"uri" "/a"}')

    assert response.json() == {
        "error_msg": "invalid request body: Expecting ':' delimiter at line 1 column 8",
        "req_body": '{"uri" "/a"}',
    }


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size):
        yield b" " * 65536


async def test_an_endless_body_is_cut_off(api: Admin) -> None:
    response = await api.http.put("/routes/1", content=chunks(10_000))

    assert response.status_code == 400
    assert "is greater than the maximum size 1572864 allowed" in response.json()["error_msg"]


UNKNOWN: list[tuple[str, str, int, str]] = [
    ("GET", "/routs", 404, "Unsupported resource type: routs"),
    ("GET", "/", 404, "Unsupported resource type: "),
    ("GET", "/routs/1/a", 404, "Unsupported resource type: routs"),
    ("HEAD", "/routes", 404, ""),
    ("TRACE", "/routes/1", 404, "not found"),
    ("POST", "/routes/1", 404, "not found"),
    ("PUT", "/routes/1/uri", 404, "not found"),
    ("GET", "/routes/1/uri", 404, "not found"),
    ("GET", "/schema/routs", 400, "not found schema: routs"),
    ("GET", "/schema/", 404, "Unsupported resource type: schema"),
    ("POST", "/global_rules", 405, "not supported `POST` method for global_rule"),
    ("PUT", "/routes/a%20b", 400, "invalid configuration: property \"id\" validation failed"),
    ("GET", "/routes/" + "a" * 65, 400, "expected 1 to 64 characters"),
    ("PUT", "/wasm_plugins/a%20b/module", 400, "property \"id\" validation failed"),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "path", "status", "message"), UNKNOWN)
async def test_paths_that_lead_nowhere(api: Admin, verb: str, path: str, status: int, message: str) -> None:
    response = await api.call(verb, path, ROUTE)

    assert response.status_code == status, response.text
    assert verb == "HEAD" or message in response.json()["error_msg"]


async def test_outside_of_the_api_there_is_nothing(api: Admin) -> None:
    response = await api.http.get("http://admin/other")

    assert (response.status_code, response.json()) == (404, {"error_msg": "not found"})


async def test_schemas(api: Admin) -> None:
    assert "uris" in (await api.ok("GET", "/schema/route"))["properties"]
    assert await api.ok("GET", "/schema/route") == await api.ok("GET", "/schema/routes")
    for kind in ("service", "upstream", "plugin_config", "global_rule", "wasm_plugin"):
        assert (await api.ok("GET", f"/schema/{kind}"))["type"] == "object"


async def test_two_writers_lose_nothing(api: Admin, store: ConfigStore) -> None:
    await api.ok("PUT", "/upstreams/1", NODES)
    async with admin(store) as other:
        await asyncio.gather(
            *(
                writer.ok("PATCH", "/upstreams/1", {"labels": {f"{name}{number}": "x"}})
                for name, writer in (("a", api), ("b", other))
                for number in range(20)
            )
        )

    labels = (await api.ok("GET", "/upstreams/1"))["value"]["labels"]
    assert set(labels) == {f"{name}{number}" for name in "ab" for number in range(20)}


async def test_posts_at_once_get_different_ids(api: Admin, store: ConfigStore) -> None:
    async with admin(store) as other:
        answers = await asyncio.gather(*(api_.ok("POST", "/routes", ROUTE) for api_ in (api, other) * 10))

    assert len({answer["value"]["id"] for answer in answers}) == 20


class Failing:
    """A store of which every call fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - stands for every method of the contract
        async def fail(*_arguments: object, **_options: object) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (StoreUnavailable("no endpoint answers"), 503, "the configuration store is unavailable: no endpoint answers"),
        (TooLarge("a request of 9 bytes is over the limit"), 413, "a request of 9 bytes is over the limit"),
        (RuntimeError("secret detail"), 500, "internal error, see the log of the control plane"),
    ],
)
async def test_a_store_that_fails(error: Exception, status: int, message: str) -> None:
    store: Any = Failing(error)
    async with admin(store) as api:
        for verb, path in (("GET", "/routes"), ("GET", "/routes/1"), ("PUT", "/routes/1"), ("DELETE", "/routes/1")):
            response = await api.call(verb, path, ROUTE)
            assert (response.status_code, response.json()) == (status, {"error_msg": message})
            assert response.headers["server"].startswith("waspgate/")
            assert response.headers["content-type"] == "application/json"
