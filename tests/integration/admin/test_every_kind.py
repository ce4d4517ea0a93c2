"""One row per kind: what is taken, changed, refused; and what holds for all: If-Match, dry runs, history, rollback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from control_plane.admin.example_ssl import example_ssl
from shared.keys import KINDS, Kind
from shared.schema.resources import RESOURCES
from shared.store.url import open_store
from tests.support.admin import NODES, Admin, admin

pytestmark = pytest.mark.asyncio(loop_scope="module")

SSL = example_ssl("kind.example.com")
PROTO = 'syntax = "proto3"; message Hello { string name = 1; }'
WASM_FREE: dict[str, Any] = {"plugins": {"echo": {"body": "x"}}}


@dataclass(frozen=True, slots=True)
class Row:
    """`path` of an object; `first` and `second` are what it may be; `bad` documents with a part of the answer."""

    path: str
    first: dict[str, Any]
    second: dict[str, Any]
    bad: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    # A merge, and what it makes of `second`.
    patch: tuple[dict[str, Any], dict[str, Any]] | None = None


TABLE: dict[Kind, Row] = {
    "routes": Row(
        "/routes/k",
        {"uri": "/a", "upstream": NODES},
        {"uris": ["/a", "/b"], "upstream": NODES, "methods": ["GET"], "labels": {"a": "1"}},
        [
            ({"uri": "/a"}, "object matches none of the required"),
            ({"uri": "/a", "uris": ["/b"], "upstream": NODES}, "value should match only one schema"),
            ({"uri": "/a", "host": "a", "hosts": ["b"], "upstream": NODES}, "only one of host or hosts is allowed"),
            ({"uri": "/a", "upstream": NODES, "script": "x"}, "not supported yet"),
            ({"uri": "/a", "upstream": NODES, "vars": [["x", "=", 1]]}, "vars"),
            ({"uri": "/a", "upstream": NODES, "prioritty": 1}, 'did you mean "priority"'),
        ],
        ({"labels": {"a": None, "b": "2"}, "methods": ["PUT"]}, {"labels": {"b": "2"}, "methods": ["PUT"]}),
    ),
    "services": Row(
        "/services/k",
        {"upstream": NODES},
        {"upstream": NODES, "hosts": ["a.com"], **WASM_FREE},
        [
            ({"hosts": []}, "at least 1"),
            ({"upstream": {}}, "nodes"),
            ({"plugins": {"echo": 5}}, "invalid plugin conf 5 for plugin [echo]"),
        ],
        ({"plugins": {"echo": {"body": "y"}}}, {"plugins": {"echo": {"body": "y"}}}),
    ),
    "upstreams": Row(
        "/upstreams/k",
        NODES,
        {"nodes": [{"host": "a", "port": 1, "weight": 1}], "type": "least_conn"},
        [({"nodes": 5}, "array or object"), ({"nodes": {"a:1": -1}}, "at least 0"), ({**NODES, "type": "random"}, "enum")],
        ({"nodes": {"b:2": 1}}, {"nodes": {"b:2": 1}}),
    ),
    "plugin_configs": Row(
        "/plugin_configs/k", {"plugins": {}}, WASM_FREE, [({}, '"plugins" is required'), ({"plugins": None}, "wrong type")],
        ({"desc": "d"}, {"desc": "d"}),
    ),
    "global_rules": Row(
        "/global_rules/k", {"plugins": {}}, {"plugins": {"request-id": {}}},
        [({}, '"plugins" is required'), ({"plugins": {"no": {"conf": "x"}}}, "unknown plugin [no]")],
        ({"plugins": {"request-id": {"header_name": "X-A"}}}, {"plugins": {"request-id": {"header_name": "X-A"}}}),
    ),
    "stream_routes": Row(
        "/stream_routes/k", {"server_port": 9100, "upstream": NODES}, {"remote_addr": "10.0.0.0/8", "upstream": NODES},
        [({"server_port": 0, "upstream": NODES}, "at least 1"), ({"remote_addr": "x", "upstream": NODES}, "remote_addr")],
    ),
    "wasm_plugins": Row(
        "/wasm_plugins/k", {"priority": 1}, {"priority": 2, "failure_policy": "fail_open"},
        [
            ({"priority": "1"}, "expected integer, got string"),
            ({"failure_policy": "never"}, "enum"),
            ({"module": {"sha256": "0" * 64}}, "no module with sha256"),
        ],
        ({"environment": {"A": "b"}}, {"environment": {"A": "b"}}),
    ),
    "ssls": Row(
        "/ssls/k", SSL, {**SSL, "labels": {"a": "b"}},
        [({**SSL, "key": "x" * 200}, "key"), ({**SSL, "snis": ["x"]}, "none or both")],
        ({"status": 0}, {"status": 0}),
    ),
    "plugin_metadata": Row(
        "/plugin_metadata/redirect", {"https_port": 8443}, {"https_port": 443},
        [({"https_port": "x"}, "expected integer"), ({"port": 1}, "additional properties forbidden")],
    ),
    "secrets": Row(
        "/secrets/vault/k",
        {"uri": "http://127.0.0.1:8200", "prefix": "kv", "token": "t"},
        {"uri": "https://vault:8200", "prefix": "kv/b", "token": "u"},
        [({"prefix": "kv", "token": "t"}, '"uri" is required'), ({"uri": "ftp://a", "prefix": "kv", "token": "t"}, "uri")],
        ({"prefix": "other"}, {"prefix": "other"}),
    ),
    "consumers": Row(
        "/consumers/k", {"username": "k"}, {"username": "k", "plugins": {"key-auth": {"key": "one"}}},
        [({"username": "l"}, "wrong username"), ({"username": "k", "group_id": "none"}, "group")],
    ),
    "credentials": Row(
        "/consumers/owner/credentials/k",
        {"plugins": {"key-auth": {"key": "two"}}},
        {"plugins": {"key-auth": {"key": "three"}}, "desc": "d"},
        [({"plugins": {"cors": {}}}, "auth"), ({"plugins": {"key-auth": {}}}, "key")],
    ),
    "protos": Row(
        "/protos/k", {"content": PROTO}, {"content": PROTO, "desc": "d"},
        [({}, '"content" is required'), ({"content": "message"}, "not a Protocol Buffers definition: line 1")],
    ),
    "consumer_groups": Row(
        "/consumer_groups/k", {"plugins": {}}, WASM_FREE, [({}, '"plugins" is required')], ({"desc": "d"}, {"desc": "d"}),
    ),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Admin]:
    """One for all kinds: each has its own keys."""
    folder = tmp_path_factory.mktemp("kinds")
    async with open_store(f"sqlite:///{folder}/config.db") as store, admin(store) as opened:
        await opened.ok("PUT", "/consumers/owner", {"username": "owner"})
        yield opened


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest_asyncio.fixture(loop_scope="module")
async def row(api: Admin, kind: Kind) -> AsyncIterator[Row]:
    yield TABLE[kind]
    await api.call("DELETE", TABLE[kind].path)


def own(value: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """What was sent, without what is added."""
    added = {"create_time", "update_time", "id"}
    return {name: item for name, item in value.items() if name not in added}


def shown(document: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """As it is read back: without its secrets."""
    return {name: item for name, item in document.items() if name not in RESOURCES[kind].secrets}


async def value_of(api: Admin, path: str) -> dict[str, Any]:
    value: dict[str, Any] = (await api.ok("GET", path))["value"]
    return value


def same(value: dict[str, Any], document: dict[str, Any], kind: Kind) -> bool:
    if kind in ("consumers", "credentials"):
        # Their secrets are masked.
        return {*own(value, kind)} == {*shown(document, kind)}
    return own(value, kind) == shown(document, kind)


async def test_what_is_taken_is_stored_as_it_came(api: Admin, kind: Kind, row: Row) -> None:
    created = await api.call("PUT", row.path, row.first)
    replaced = await api.call("PUT", row.path, row.second)
    read = await api.ok("GET", row.path)
    listed = (await api.ok("GET", row.path.rpartition("/")[0] if kind != "secrets" else "/secrets"))["list"]

    assert (created.status_code, replaced.status_code) == (201, 200), (created.text, replaced.text)
    assert same(created.json()["value"], row.first, kind)
    assert same(read["value"], row.second, kind)
    assert read in listed
    assert read["value"]["create_time"] <= read["value"]["update_time"]
    assert read["modifiedIndex"] > read["createdIndex"]


async def test_what_is_refused_changes_nothing(api: Admin, kind: Kind, row: Row) -> None:
    await api.ok("PUT", row.path, row.first)
    before = await api.ok("GET", row.path)

    for document, message in row.bad:
        assert message in await api.refused(400, "PUT", row.path, document), document
    assert await api.ok("GET", row.path) == before


async def test_patches(api: Admin, kind: Kind, row: Row) -> None:
    await api.ok("PUT", row.path, row.second)
    if "PATCH" not in RESOURCES[kind].verbs:
        assert "not supported `PATCH`" in await api.refused(405, "PATCH", row.path, {})
        return
    assert row.patch is not None
    change, result = row.patch
    merged = await api.ok("PATCH", row.path, change)
    name = next(iter(result))
    set_ = await api.ok("PATCH", f"{row.path}/{name}", result[name])

    assert {name: merged["value"][name] for name in result} == result
    assert set_["value"][name] == result[name]
    assert await api.refused(400, "PATCH", row.path, {"nothing_like_this": 1})


async def test_if_match(api: Admin, kind: Kind, row: Row) -> None:
    async def put(document: dict[str, Any], **headers: str) -> Any:  # noqa: ANN401 - a response
        return await api.http.put(
            row.path, json=document, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    absent = await put(row.first, if_match="5")
    created = await put(row.first, if_none_match="*")
    again = await put(row.first, if_none_match="*")
    tag = (await api.call("GET", row.path)).headers["ETag"]
    replaced = await put(row.second, if_match=tag)
    late = await put(row.first, if_match=tag)
    kept = await api.http.delete(row.path, headers={"If-Match": tag})
    bad = await put(row.first, if_match="tomorrow")

    assert absent.status_code == 412
    assert absent.json() == {
        "error_msg": "the object is not what the request expects: modifiedIndex 5, but there is no such object",
        "expected": "modifiedIndex 5",
        "current": 0,
    }
    assert (created.status_code, again.status_code, replaced.status_code, late.status_code, kept.status_code) == (
        201,
        412,
        200,
        412,
        412,
    )
    assert replaced.headers["ETag"] != tag
    assert late.json()["current"] == int(replaced.headers["ETag"].strip('"'))
    assert bad.status_code == 400
    assert (await api.http.delete(row.path, headers={"If-Match": "*"})).status_code == 200


async def test_a_dry_run_changes_nothing(api: Admin, kind: Kind, row: Row) -> None:
    async def told(verb: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await api.ok(verb, f"{row.path}?dry_run=true", document)
        assert answer["dry_run"] is True
        [change] = answer["changes"]
        assert isinstance(change, dict)
        return change

    created = await told("PUT", row.first)
    assert (await api.call("GET", row.path)).status_code == 404
    await api.ok("PUT", row.path, row.first)
    before = await api.store.revision()
    replaced, deleted = await told("PUT", row.second), await told("DELETE")
    refused = await api.refused(400, "PUT", f"{row.path}?dry_run=true", {"nothing_like_this": 1})

    assert [change["action"] for change in (created, replaced, deleted)] == ["create", "replace", "delete"]
    assert replaced["differences"]
    assert refused
    assert await api.store.revision() == before
    for secret in RESOURCES[kind].secrets:
        assert all(difference["path"] != f"$.{secret}" for difference in replaced["differences"])


async def test_history_and_the_way_back(api: Admin, kind: Kind, row: Row) -> None:
    first = (await api.call("PUT", row.path, row.first)).headers["X-Waspgate-Revision"]
    await api.ok("PUT", row.path, row.second)
    listed = await api.ok("GET", f"{row.path}/history")
    back = await api.ok("POST", f"{row.path}/rollback", {"revision": int(first)})
    await api.ok("DELETE", row.path)
    gone = await api.ok("GET", f"{row.path}/history")
    revived = await api.call("POST", f"{row.path}/rollback", {"revision": int(first)})

    assert [version["active"] for version in listed["list"]][:2] == [True, False]
    assert listed["list"][1]["revision"] == int(first)
    assert same(listed["list"][1]["value"], row.first, kind)
    assert same(back["value"], row.first, kind)
    assert (gone["list"][0]["value"], gone["list"][0]["active"]) == (None, True)
    assert revived.status_code == 201
    assert same(await value_of(api, row.path), row.first, kind)
    assert "as of revision 1" in await api.refused(400, "POST", f"{row.path}/rollback", {"revision": 1})
    assert await api.refused(400, "POST", f"{row.path}/rollback", {"revison": 1})


async def test_without_a_word_the_version_before(api: Admin, kind: Kind, row: Row) -> None:
    if kind == "wasm_plugins":
        # Theirs goes back to another module, which this one never had.
        await api.ok("PUT", row.path, row.first)
        assert "no version before" in await api.refused(400, "POST", f"{row.path}/rollback")
        return
    await api.ok("PUT", row.path, row.first)
    await api.ok("PUT", row.path, row.second)
    await api.ok("POST", f"{row.path}/rollback")
    assert same(await value_of(api, row.path), row.first, kind)
    await api.ok("POST", f"{row.path}/rollback")
    assert same(await value_of(api, row.path), row.second, kind)


async def test_a_history_is_bounded(api: Admin) -> None:
    for number in range(14):
        await api.ok("PUT", "/upstreams/bounded", {**NODES, "desc": str(number)})

    listed = (await api.ok("GET", "/upstreams/bounded/history"))["list"]
    assert [version["value"]["desc"] for version in listed] == [str(number) for number in range(13, 2, -1)]
    large = {**NODES, "labels": {f"l{number}": "x" * 250 for number in range(200)}}
    for _ in range(3):
        await api.ok("PUT", "/upstreams/bounded", large)
    assert len((await api.ok("GET", "/upstreams/bounded/history"))["list"]) == 2
    assert (await api.call("GET", "/upstreams/never/history")).status_code == 404
