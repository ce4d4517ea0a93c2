"""Who may do what with the Admin API, what is refused before that, what is written down, and that no secret is read back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.app import create_app
from control_plane.auth.attempts import TRIES
from control_plane.auth.hashing import hash_key
from control_plane.auth.keys import AdminKey
from control_plane.security import Guard
from shared.keys import history_key
from shared.secrets.keyring import MARK, Keyring
from shared.secrets.places import MASK
from shared.secrets.sealed_store import SealedStore
from shared.store.contract import ConfigStore
from tests.support.admin import NODES, shared_sandbox

ADMIN, VIEWER, LIMITED = "a" * 43, "v" * 43, "l" * 43
SHORT = "chosen-by-a-person"
SHORT_HASH = hash_key(SHORT)
VAULT = {"uri": "http://127.0.0.1:8200", "prefix": "kv", "token": "vault-secret"}
CSRF = {"uri": "/", "upstream": NODES, "plugins": {"csrf": {"key": "csrf-secret", "name": "t"}}}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Api:
    """An application of its own over the store; `lines` is its audit log."""

    def __init__(self, store: ConfigStore, **guarded: Any) -> None:  # noqa: ANN401
        self.clock = Clock()
        self.lines: list[dict[str, Any]] = []
        keys = [
            AdminKey("viewer", hash_key(VIEWER), "viewer"),
            AdminKey("limited", hash_key(LIMITED), "admin", frozenset({"routes"}), (ip_network("10.0.0.0/8"),)),
            AdminKey("person", SHORT_HASH),
        ]
        guard = replace(Guard.of([ADMIN], keys, self.clock), audit=self.lines.append, **guarded)
        self.app = create_app(store, guard=guard, sandbox=shared_sandbox())

    async def call(
        self, verb: str, path: str, body: object = None, *, key: str | None = ADMIN, client: str = "127.0.0.1", **headers: str
    ) -> httpx.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields |= {} if key is None else {"X-API-KEY": key}
        transport = httpx.ASGITransport(self.app, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9180/apisix/admin") as http:
            return await http.request(verb, path, json=body, headers=fields)

    async def ok(self, verb: str, path: str, body: object = None, **more: Any) -> Any:  # noqa: ANN401
        response = await self.call(verb, path, body, **more)
        assert response.is_success, response.text
        return response.json()


@pytest.fixture
async def sealed(store: ConfigStore) -> SealedStore:
    return SealedStore(store, Keyring([bytes(32)]))


@pytest.fixture
async def api(sealed: SealedStore) -> Api:
    return Api(sealed)


# Keys.


async def test_a_viewer_reads_and_writes_nothing(api: Api) -> None:
    await api.ok("PUT", "/routes/1", CSRF)
    for path in ("/routes", "/routes/1", "/plugins/list", "/schema/routes"):
        assert (await api.call("GET", path, key=VIEWER)).status_code == 200
    for verb, path in (("PUT", "/routes/1"), ("POST", "/routes"), ("PATCH", "/routes/1"), ("DELETE", "/routes/1")):
        response = await api.call(verb, path, CSRF, key=VIEWER)
        assert response.status_code == 401
        assert response.json()["description"] == "invalid method for role viewer"
    assert (await api.ok("GET", "/routes"))["total"] == 1


async def test_a_limited_key_is_for_its_kinds_from_its_addresses(api: Api) -> None:
    inside = {"key": LIMITED, "client": "10.1.2.3"}
    await api.ok("PUT", "/routes/1", CSRF, **inside)
    for verb, path in (("PUT", "/upstreams/1"), ("GET", "/ssls"), ("POST", "/transaction"), ("GET", "/data_planes")):
        response = await api.call(verb, path, NODES, **inside)
        assert (response.status_code, response.json()["error_msg"]) == (
            403,
            "the key limited is for other resources than this one",
        )
    elsewhere = await api.call("GET", "/routes", key=LIMITED, client="192.0.2.1")
    unknown = await api.call("GET", "/routes", key="nobody's", client="192.0.2.1")
    assert (elsewhere.status_code, elsewhere.content) == (unknown.status_code, unknown.content) == (401, unknown.content)


async def test_wrong_keys_are_counted_and_random_ones_never_locked_out(api: Api) -> None:
    for number in range(TRIES):
        assert (await api.call("GET", "/routes", key=f"guess {number}")).status_code == 401
    refused = await api.call("GET", "/routes", key="guess")
    right = await api.call("GET", "/routes", key=SHORT)
    assert (
        (refused.status_code, refused.headers["Retry-After"]) == (right.status_code, right.headers["Retry-After"]) == (429, "6")
    )
    # Nobody guesses a random key, and nobody can keep its owner out.
    assert (await api.call("GET", "/routes", key=ADMIN)).status_code == 200
    assert (await api.call("GET", "/routes", key="x" * 43)).status_code == 429
    assert (await api.call("GET", "/routes", key=SHORT, client="192.0.2.1")).status_code == 200
    # A request without a key is no guess.
    assert (await api.call("GET", "/routes", key=None)).status_code == 401
    api.clock.now += 6
    assert (await api.call("GET", "/routes", key=SHORT)).status_code == 200


# What is refused before.


async def test_what_came_through_a_proxy_is_refused(api: Api) -> None:
    """The gateway itself is one: a route to this address leads nowhere."""
    for name in ("X-Forwarded-For", "X-Real-IP", "X-Forwarded-Port", "X-Forwarded-Host", "Forwarded", "Via"):
        response = await api.call("GET", "/routes", **{name: "x"})
        assert response.status_code == 403
        assert "came through a proxy" in response.json()["error_msg"]
        assert (await api.call("HEAD", "", **{name: "x"})).status_code == 403


# The audit log.


async def test_writes_are_written_down_with_what_they_changed(api: Api) -> None:
    await api.ok("PUT", "/routes/1", {**CSRF, "name": "one"}, key=SHORT)
    await api.ok("PATCH", "/routes/1", {"name": "two", "plugins": {"csrf": {"key": "another-secret"}}})
    await api.ok("GET", "/routes/1")
    await api.ok("DELETE", "/routes/1?force=true")

    made, changed, deleted = api.lines
    assert (made["key"], made["from"], made["method"], made["path"], made["status"]) == (
        "person",
        "127.0.0.1",
        "PUT",
        "/apisix/admin/routes/1",
        201,
    )
    assert (made["changes"][0]["resource"], changed["key"]) == ("/apisix/routes/1", "admin")
    found = {change.pop("path"): change for change in changed["changes"][0]["changes"]}
    assert found == {"$.plugins.csrf.key": {"before": MASK, "after": MASK}, "$.name": {"before": "one", "after": "two"}}
    assert (deleted["query"], deleted["status"], deleted["changes"][0]["changes"][0]["path"]) == ("force=true", 200, "$")
    revisions = [line["revision"] for line in api.lines]
    assert revisions == sorted(revisions)
    assert None not in revisions
    assert "-secret" not in str(api.lines)


async def test_refusals_are_written_down(api: Api) -> None:
    await api.call("PUT", "/routes/1", {"uri": 5})
    await api.call("DELETE", "/routes/1", key=VIEWER)
    await api.call("POST", "/routes", CSRF, key="wrong")
    await api.call("PUT", "/routes/1", CSRF, X_Forwarded_For="10.0.0.1")
    found = [(line["key"], line["status"], line["revision"], line["changes"]) for line in api.lines]
    assert found == [("admin", 400, None, []), ("viewer", 401, None, []), (None, 401, None, []), (None, 403, None, [])]


async def test_a_trusted_proxy_s_client_is_the_one_that_is_written_down(sealed: SealedStore) -> None:
    api = Api(sealed, trusted=(ip_network("172.16.0.0/12"),))
    await api.call("DELETE", "/routes/1", client="172.16.0.1", X_Forwarded_For="192.0.2.1")
    assert [(line["key"], line["from"], line["status"]) for line in api.lines] == [("admin", "192.0.2.1", 404)]


async def test_all_of_a_transaction_is_one_line(api: Api) -> None:
    operations = [
        {"method": "PUT", "path": "/upstreams/1", "body": NODES},
        {"method": "PUT", "path": "/routes/1", "body": {"uri": "/", "upstream_id": "1"}},
    ]
    await api.ok("POST", "/transaction", {"operations": operations})
    (line,) = api.lines
    assert [change["resource"] for change in line["changes"]] == ["/apisix/upstreams/1", "/apisix/routes/1"]


# Secrets.


async def test_secrets_lie_encrypted_and_are_never_read_back(api: Api, store: ConfigStore) -> None:
    answers = [await api.call("PUT", "/routes/1", CSRF)]
    answers.append(await api.call("PATCH", "/routes/1", {"desc": "changed"}))
    answers.append(await api.call("PUT", "/secrets/vault/1", VAULT))
    paths = ("/routes", "/routes/1", "/routes/1/history", "/secrets", "/secrets/vault/1")
    answers += [await api.call("GET", path) for path in paths]
    answers.append(await api.call("PUT", "/routes/1?dry_run=true", {**CSRF, "plugins": {"csrf": {"key": "third-secret"}}}))
    for response in answers:
        assert response.is_success, response.text
        assert "-secret" not in response.text
    assert answers[0].json()["value"]["plugins"]["csrf"]["key"] == MASK

    stored = [entry for prefix in ("/apisix/", "/waspgate/") for entry in (await store.list(prefix)).entries]
    assert not [entry.key for entry in stored if b"-secret" in entry.value]
    assert [entry.key for entry in stored if MARK in entry.value] == [
        "/apisix/routes/1",
        "/apisix/secrets/vault/1",
        history_key("routes", "1"),
    ]


async def test_what_was_read_can_be_written_back(api: Api, sealed: SealedStore) -> None:
    await api.ok("PUT", "/routes/1", CSRF)
    shown = (await api.ok("GET", "/routes/1"))["value"]
    for name in ("create_time", "update_time"):
        del shown[name]
    await api.ok("PUT", "/routes/1", {**shown, "desc": "edited"})
    await api.ok("PATCH", "/routes/1", {"plugins": {"csrf": {"key": MASK, "expires": 60}}})
    await api.ok("POST", "/routes/1/rollback")
    entry = await sealed.get("/apisix/routes/1")
    assert entry is not None
    assert b'"key":"csrf-secret"' in entry.value

    for path, document in (("/routes/2", shown), ("/routes/1", {**CSRF, "plugins": {"csrf": {"key": "$encrypted://v1/x"}}})):
        response = await api.call("PUT", path, {**document, "id": path[-1]})
        assert (response.status_code, response.json()["errors"][0]["path"]) == (400, "$.plugins.csrf.key")


async def test_a_write_that_changes_nothing_stores_the_same_bytes(api: Api, store: ConfigStore) -> None:
    found = []
    for _ in range(2):
        await api.ok("PUT", "/global_rules/1", {"plugins": {"csrf": {"key": "csrf-secret"}}})
        entry = await store.get("/apisix/global_rules/1")
        assert entry is not None
        found.append(entry.value.partition(b'"plugins"')[2].partition(b"}}")[0])
    assert found[0] == found[1]


async def test_a_reference_is_shown_and_stored_as_it_is(api: Api, store: ConfigStore) -> None:
    route = {**CSRF, "plugins": {"csrf": {"key": "$secret://vault/1/csrf/key"}}}
    written = await api.ok("PUT", "/routes/1", route)
    assert written["value"]["plugins"]["csrf"]["key"] == "$secret://vault/1/csrf/key"
    entry = await store.get("/apisix/routes/1")
    assert entry is not None
    assert MARK not in entry.value
    ssl = {"sni": "a.test", "cert": "$env://CERT", "key": "$secret://vault/1/tls/key"}
    await api.ok("PUT", "/ssls/1", ssl)
    refused = await api.call("PUT", "/routes/2", {**CSRF, "plugins": {"csrf": {"key": "k", "expires": "$env://NUMBER"}}})
    assert "wrong type: expected integer, got string" in refused.json()["error_msg"]


async def test_without_keys_a_secret_is_refused_not_stored_in_clear(store: ConfigStore) -> None:
    api = Api(SealedStore(store, Keyring()))
    await api.ok("PUT", "/routes/2", {"uri": "/", "upstream": NODES})
    response = await api.call("PUT", "/routes/1", CSRF)
    assert response.status_code == 503
    assert "there is no key to encrypt it with: set encryption_keys_file" in response.json()["error_msg"]
    assert await store.get("/apisix/routes/1") is None


async def test_a_change_in_many_transactions_lies_nowhere_in_clear(
    api: Api, store: ConfigStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    put = store.put

    async def watched(key: str, value: bytes, *, lease: int = 0) -> int:
        seen.append(value)
        return await put(key, value, lease=lease)

    routes = [{**CSRF, "id": str(number), "uri": f"/{number}"} for number in range(200)]
    monkeypatch.setattr(store, "put", watched)
    await api.ok("PUT", "/configs", {"routes": routes}, X_Digest="1")
    assert len([value for value in seen if value.startswith(MARK)]) > 1
    stored = [entry.value for entry in (await store.list("/")).entries]
    assert len([value for value in stored if MARK in value]) == 200
    assert not [value for value in seen + stored if b"csrf-secret" in value]

    keyless = Api(SealedStore(store, Keyring()))
    refused = await keyless.call("PUT", "/configs", {"routes": [{**route, "desc": "x"} for route in routes]}, X_Digest="2")
    assert refused.status_code == 503
    assert await store.get("/apisix/batch") is None


async def test_what_cannot_be_opened_can_be_seen_and_replaced(api: Api, store: ConfigStore) -> None:
    await api.ok("PUT", "/routes/1", CSRF)
    other = Api(SealedStore(store, Keyring([b"x" * 32])))
    assert (await other.ok("GET", "/routes/1"))["value"]["plugins"]["csrf"]["key"] == MASK
    refused = await other.call("PATCH", "/routes/1", {"desc": "x"})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "$.plugins.csrf.key")
    await other.ok("PUT", "/routes/1", CSRF)


async def test_errors_show_no_secret(api: Api, tmp_path: Path) -> None:
    bad = {**CSRF, "plugins": {"csrf": {"key": ["csrf-secret"]}}}
    response = await api.call("PUT", "/routes/1", bad)
    assert response.status_code == 400
    assert "csrf-secret" not in response.text
