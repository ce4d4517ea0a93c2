"""`waspgate control-plane` as a process that others can reach: TLS with certificates of clients, named keys, an audit file, and
keys of secrets from a file."""

from __future__ import annotations

import json
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from control_plane.auth.hashing import hash_key
from control_plane.cli.admin_client import AdminClient
from control_plane.cli.errors import CommandError
from control_plane.cli.secrets import rotate
from control_plane.cli.settings import load_settings
from shared.secrets.keyring import new_key
from tests.support.certificates import make_certificates
from tests.support.command import Command, free_port, running, wait_until
from tests.support.etcd import Certificates

ADMIN, VIEWER = "a" * 43, "a person's own key"
ROUTE = {"uri": "/", "upstream": {"nodes": {"127.0.0.1:1980": 1}}, "plugins": {"csrf": {"key": "csrf-secret"}}}


@dataclass
class Guarded:
    command: Command
    port: int
    files: Certificates
    audit: Path

    def client(self, key: str, *, certified: bool = True) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.files.ca))
        if certified:
            context.load_cert_chain(self.files.cert, self.files.key)
        base = f"https://127.0.0.1:{self.port}/apisix/admin/"
        return httpx.Client(base_url=base, headers={"X-API-KEY": key}, verify=context, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    files, port = make_certificates(folder / "tls"), free_port()
    (folder / "encryption.keys").write_text(new_key())
    (folder / "waspgate.toml").write_text(
        f"""
        admin = "127.0.0.1:{port}"
        store = "sqlite://{folder}/data/config.db"
        admin_tls_cert = "{files.cert}"
        admin_tls_key = "{files.key}"
        admin_client_ca = "{files.ca}"
        audit_log = "{folder}/audit.log"
        encryption_keys_file = "{folder}/encryption.keys"

        [[admin_keys]]
        name = "ci"
        role = "admin"
        key_hash = "{hash_key(ADMIN)}"

        [[admin_keys]]
        name = "dashboard"
        role = "viewer"
        key_hash = "{hash_key(VIEWER)}"
        """
    )
    with running(["control-plane", "--config", str(folder / "waspgate.toml")], folder) as command:
        wait_until(lambda: "admin API is listening" in command.output or command.process.poll() is not None, "it listens")
        yield Guarded(command, port, files, folder / "audit.log")
        assert command.stop() == 0, command.output
        assert "Traceback" not in command.output


def test_a_client_shows_a_certificate_and_a_key(guarded: Guarded) -> None:
    with guarded.client(ADMIN) as admin:
        assert admin.put("routes/1", json=ROUTE).status_code == 201
        assert admin.get("routes/1").json()["value"]["plugins"]["csrf"]["key"] == "********"
    with guarded.client(VIEWER) as viewer:
        assert viewer.get("routes/1").status_code == 200
        assert viewer.delete("routes/1").status_code == 401
    with guarded.client("another key of some length") as nobody:
        assert nobody.get("routes/1").status_code == 401


def test_commands_take_the_same_settings(guarded: Guarded) -> None:
    settings = load_settings({"admin_key": ADMIN}, guarded.audit.parent / "waspgate.toml")
    assert AdminClient(settings).get("schema/route")["type"] == "object"


def test_without_a_certificate_no_request_is_read(guarded: Guarded) -> None:
    with guarded.client(ADMIN, certified=False) as client, pytest.raises((httpx.TransportError, ssl.SSLError)):
        client.get("routes/1")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{guarded.port}/apisix/admin/routes", trust_env=False)


def test_what_was_done_stands_in_the_audit_file(guarded: Guarded) -> None:
    with guarded.client(ADMIN) as admin:
        admin.put("routes/2", json=ROUTE)
        admin.delete("routes/2")

    def lines() -> list[dict[str, object]]:
        text = guarded.audit.read_text() if guarded.audit.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    wait_until(lambda: any(line["method"] == "DELETE" and line["status"] == 200 for line in lines()), "the deletion is logged")
    made, gone = [line for line in lines() if line["path"] == "/apisix/admin/routes/2"]
    assert (made["key"], made["status"], gone["key"], gone["method"]) == ("ci", 201, "ci", "DELETE")
    assert stat.S_IMODE(guarded.audit.stat().st_mode) == 0o600
    for secret in ("csrf-secret", ADMIN, VIEWER):
        assert secret not in guarded.audit.read_text()
        assert secret not in guarded.command.output


def test_no_other_key_was_made(guarded: Guarded) -> None:
    folder = guarded.audit.parent
    assert not list(folder.rglob("admin.key"))
    assert not list((folder / "data").glob("encryption.keys"))


def test_a_store_that_others_share_has_no_key_of_one_process() -> None:
    """Nobody else could read what it encrypts."""
    with pytest.raises(CommandError, match="there are no encryption keys: see --encryption-keys-file"):
        rotate(store="etcd://127.0.0.1:1")
    with pytest.raises(CommandError, match="--add-key: the keys are in no file"):
        rotate(store="etcd://127.0.0.1:1", add_key=True)
