"""`waspgate up` and its secrets: how they lie in the store, where references lead, and that no route leads to the Admin API."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.secrets.keyring import MARK, read_keys
from tests.support.command import run, wait_until
from tests.support.gateway import ScriptedUpstream, answering, ok, upstream
from tests.support.up import KEY, Up, waspgate_up
from tests.support.vault import Vault, vault

SECRET = "a-secret-that-nobody-reads-back"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def state(folder: Path) -> Path:
    return folder / "state" / "waspgate"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with upstream(answering(ok(b"hello"))) as running:
        yield running


@pytest.fixture(scope="module")
def manager() -> Iterator[Vault]:
    with vault() as running:
        yield running


@pytest.fixture(scope="module")
def up(folder: Path, server: ScriptedUpstream) -> Iterator[Up]:
    with waspgate_up(folder, server.port, 1, WASPGATE_SECRET_TTL="1", GREETING="from the environment") as running:
        yield running


def shows(up: Up, name: str, value: str) -> dict[str, object]:
    """A route that answers with this value in a field."""
    return {
        "uri": f"/{name}",
        "upstream": up.upstream,
        "plugins": {"response-rewrite": {"headers": {"set": {"X-Value": value}}}},
    }


def value_at(up: Up, name: str) -> str | None:
    found: str | None = up.get(f"/{name}").headers.get("X-Value")
    return found


def values(state: Path) -> list[bytes]:
    """All that is in the store's file."""
    with sqlite3.connect(state / "config.db") as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        rows = [row for table in tables for row in database.execute(f"select * from {table}")]
    return [cell for row in rows for cell in row if isinstance(cell, bytes)]


def test_secrets_lie_encrypted_under_a_key_that_was_made(up: Up, state: Path) -> None:
    up.put("routes/csrf", {"uri": "/csrf", "upstream": up.upstream, "plugins": {"csrf": {"key": SECRET}}})
    up.settle()
    assert "Set-Cookie" in up.get("/csrf").headers
    keys = state / "encryption.keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert len(read_keys(keys.read_text())) == 1
    assert not [value for value in values(state) if SECRET.encode() in value]
    assert [value for value in values(state) if MARK in value]
    assert SECRET not in up.command.output


def test_keys_are_rotated_while_all_goes_on(up: Up, folder: Path, state: Path) -> None:
    keys = state / "encryption.keys"
    before = keys.read_text()
    store = f"sqlite://{state}/config.db"
    done = run(["secrets", "rotate", "--add-key", "--store", store], folder)
    assert done.returncode == 0, done.stderr
    assert "encrypted anew with the key" in done.stdout
    new, old = read_keys(keys.read_text())
    assert [old] == read_keys(before)

    # The old key goes; nobody was restarted.
    keys.write_text(keys.read_text().splitlines()[0])
    up.write("PATCH", "routes/csrf", json={"desc": "still readable"})
    up.settle()
    assert "Set-Cookie" in up.get("/csrf").headers
    again = run(["secrets", "rotate", "--store", store], folder)
    assert again.stdout.startswith("0 of ")
    assert new != old


def test_a_variable_is_that_of_the_data_plane(up: Up) -> None:
    up.put("routes/env", shows(up, "env", "$env://GREETING"))
    up.settle()
    assert value_at(up, "env") == "from the environment"


@pytest.mark.parametrize("version", ["kv-v1", "kv-v2"])
def test_a_secret_comes_from_vault_and_changes_with_it(up: Up, manager: Vault, version: str) -> None:
    manager.secrets[f"{version}/team/john"] = {"key": "one"}
    vaulted = {"uri": manager.uri, "prefix": f"{version}/team", "token": manager.token, "namespace": "ns"}
    up.put(f"secrets/vault/{version}", vaulted | {"kv_version": version})
    up.put(f"routes/{version}", shows(up, version, f"$secret://vault/{version}/john/key"))
    up.settle()
    assert value_at(up, version) == "one"
    assert manager.asked[-1][1] == "ns"

    manager.secrets[f"{version}/team/john"] = {"key": "two"}
    wait_until(lambda: value_at(up, version) == "two", "the renewed secret is served")


def test_a_vault_that_fails_takes_nothing_away_and_is_seen(up: Up, manager: Vault) -> None:
    manager.secrets["kv/jane"] = {"key": "kept"}
    up.put("secrets/vault/flaky", {"uri": manager.uri, "prefix": "kv", "token": manager.token})
    up.put("routes/flaky", shows(up, "flaky", "$secret://vault/flaky/jane/key"))
    up.settle()
    assert value_at(up, "flaky") == "kept"

    manager.down = True
    wait_until(lambda: "Vault is sealed; the last value stays" in up.command.output, "the failure is reported")
    assert value_at(up, "flaky") == "kept"
    wait_until(lambda: 'waspgate_config_problems{worker="1"} 0' not in up.metrics(), "the failure is counted")
    manager.down = False
    manager.secrets["kv/jane"] = {"key": "new"}
    wait_until(lambda: value_at(up, "flaky") == "new", "it is asked again")
    assert manager.token not in up.command.output


def test_no_route_leads_to_the_admin_api(up: Up) -> None:
    """Not even for somebody who has the key: who comes through the gateway has passed no list of addresses."""
    host = f"{up.admin.base_url.host}:{up.admin.base_url.port}"
    up.put("routes/loop", {"uri": "/apisix/admin/*", "upstream": {"nodes": {host: 1}}})
    up.settle()
    for headers in ({}, {"X-API-KEY": KEY}):
        answer = up.get("/apisix/admin/routes", host=host) if not headers else up.get("/apisix/admin/routes")
        assert answer.status_code == 403
        assert "came through a proxy" in answer.json()["error_msg"]
