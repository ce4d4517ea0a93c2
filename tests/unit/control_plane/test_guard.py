"""What guards the Admin API, without an application: hashes, keys, counting of wrong ones, the audit file, certificates."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from control_plane.audit import MOST_NAMELESS, Audit, AuditFile
from control_plane.auth.attempts import MOST_ADDRESSES, SECONDS_A_TRY, TRIES, Attempts
from control_plane.auth.hashing import check_hash, hash_key, matches_slowly
from control_plane.auth.keys import AdminKey, Keys, is_within, unrestricted
from control_plane.cli.errors import CommandError
from control_plane.cli.guarding import keep_certificate, tls_of
from control_plane.cli.settings import check_exposure, load_settings
from tests.support.certificates import make_certificates
from tests.support.config_source import eventually

CHOSEN, RANDOM = "correct horse battery", "x" * 43


def test_a_random_key_has_a_fast_hash_and_a_chosen_one_a_slow_one() -> None:
    assert hash_key(RANDOM).startswith("sha256:")
    hashed = hash_key(CHOSEN)
    assert hashed.startswith("scrypt:")
    assert hash_key(CHOSEN) != hashed
    assert CHOSEN not in hashed
    assert matches_slowly(CHOSEN.encode(), hashed)
    assert not matches_slowly(CHOSEN.encode() + b"x", hashed)
    for text in (hashed, hash_key(RANDOM)):
        check_hash(text)


@given(st.text() | st.from_regex(r"(sha256|scrypt):[0-9a-zA-Z+/=:]*", fullmatch=True))
def test_what_is_no_hash_is_refused_without_a_trace(text: str) -> None:
    with pytest.raises(ValueError, match="expected a hash of a key as `waspgate secrets hash-key` prints it"):
        check_hash(text)


async def test_keys_are_found_by_what_was_shown() -> None:
    keys = Keys([unrestricted("short"), AdminKey("random", hash_key(RANDOM)), AdminKey("chosen", hash_key(CHOSEN), "viewer")])
    for shown, name in (("short", "admin"), (RANDOM, "random"), (CHOSEN, "chosen"), (CHOSEN, "chosen")):
        found = await keys.find(shown.encode())
        assert found is not None
        assert found.name == name
    for wrong in ("", "shor", "short ", RANDOM + "x", CHOSEN.upper()):
        assert await keys.find(wrong.encode()) is None
    assert CHOSEN not in repr(vars(keys))
    assert RANDOM not in repr(vars(keys))


def test_a_key_without_limits_reaches_all_and_one_with_limits_its_kinds() -> None:
    limited = AdminKey("ci", hash_key(RANDOM), "admin", frozenset({"routes", "upstreams"}))
    for path in (["routes"], ["routes", "1"], ["upstreams", "1", "nodes"]):
        assert limited.reaches(path, "PUT")
    for path in (["ssls"], ["transaction"], ["configs"], ["schema", "routes"], [], [""]):
        assert not limited.reaches(path, "POST")
        assert AdminKey("all", hash_key(RANDOM)).reaches(path, "POST")
    assert limited.reaches(["schema", "routes"], "GET")
    assert limited.reaches(["plugins", "list"], "GET")
    assert not limited.reaches(["ssls", "1"], "GET")


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.1.2.3", False), ("fe80::1%eth0", True), ("", False), ("unix", False)],
)
def test_addresses_are_within_networks(address: str, inside: bool) -> None:
    assert is_within(address, [ip_network("10.0.0.0/8"), ip_network("fe80::/10")]) is inside


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_so_many_tries_and_gets_them_back() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(TRIES):
        assert attempts.wait("192.0.2.1") == 0
        attempts.failed("192.0.2.1")
    assert attempts.wait("192.0.2.1") == SECONDS_A_TRY
    assert attempts.wait("192.0.2.2") == 0
    clock.now += SECONDS_A_TRY - 1
    assert attempts.wait("192.0.2.1") == 1
    clock.now += 1
    assert attempts.wait("192.0.2.1") == 0
    attempts.failed("192.0.2.1")
    assert attempts.wait("192.0.2.1") > 0
    clock.now += TRIES * SECONDS_A_TRY
    for _ in range(TRIES):
        assert attempts.wait("192.0.2.1") == 0
        attempts.failed("192.0.2.1")


def test_one_subscriber_of_ipv6_is_one_address() -> None:
    attempts = Attempts(Clock())
    for number in range(TRIES):
        attempts.failed(f"2001:db8::{number:x}")
    assert attempts.wait("2001:db8::ffff:1") > 0
    assert attempts.wait("2001:db8:0:1::1") == 0
    for _ in range(TRIES):
        attempts.failed("::ffff:192.0.2.1")
    assert attempts.wait("192.0.2.1") > 0


def test_memory_is_bounded() -> None:
    attempts = Attempts(Clock())
    for number in range(MOST_ADDRESSES + 100):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(attempts) == MOST_ADDRESSES


# The audit log.


async def test_nobody_fills_the_log_who_has_no_key() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/named":
            scope["state"]["admin_key"] = "ci"
        await Response(status_code=401)(scope, receive, send)

    clock = Clock()
    lines: list[dict[str, Any]] = []
    transport = httpx.ASGITransport(Audit(application, lines.append, clock))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        for _ in range(MOST_NAMELESS + 5):
            await client.post("/")
        assert len(lines) == MOST_NAMELESS
        await client.post("/named")
        assert (lines[-1]["key"], lines[-1]["left_out"]) == ("ci", 5)
        await client.post("/")
        clock.now += 60
        await client.post("/")
    assert (len(lines), lines[-1]["left_out"]) == (MOST_NAMELESS + 2, 1)


def test_lines_are_appended_to_a_file_of_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditFile(path)
    for number in range(100):
        audit.write({"number": number, "text": "\u00e9\n"})
    audit.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == list(range(100))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_reported_once_and_not_fatal(tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    with structlog.testing.capture_logs() as logs:
        audit = AuditFile(Path("/dev/full"))
        for number in range(5):
            audit.write({"number": number})
        audit.close()
    errors = [log for log in logs if log["log_level"] == "error"]
    assert [(log["event"], log["reason"]) for log in errors] == [("the audit log cannot be written", "No space left on device")]


def test_what_was_lost_is_told_when_it_can_be_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "mounted-later"
    path = folder / "audit.log"
    with structlog.testing.capture_logs() as logs:
        audit = AuditFile(path)
        audit._append([{"number": 1}])
        folder.mkdir()
        audit._append([{"number": 2}])
        audit.close()
    assert path.read_text() == '{"number":2}\n'
    assert {"event": "the audit log is written again", "path": str(path), "lost": 1, "log_level": "warning"} in logs


# TLS.


def settings_of(files: Any, **more: object) -> Any:  # noqa: ANN401
    return load_settings({"admin_tls_cert": str(files.cert), "admin_tls_key": str(files.key), **more}, None)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
    return make_certificates(tmp_path_factory.mktemp("tls") / "one")


def test_what_is_no_certificate_is_one_clear_line(certificates: Any, tmp_path: Path) -> None:  # noqa: ANN401
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    with pytest.raises(CommandError, match=r"--admin-tls-cert, --admin-tls-key\) are no certificate and its key"):
        tls_of(load_settings({"admin_tls_cert": str(broken), "admin_tls_key": str(certificates.key)}, None))
    with pytest.raises(CommandError, match=r"\(--admin-client-ca\) has no certificate"):
        tls_of(settings_of(certificates, admin_client_ca=str(broken)))
    assert tls_of(load_settings({}, None)) is None


async def test_a_renewed_certificate_is_taken_up(certificates: Any, tmp_path: Path) -> None:  # noqa: ANN401
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(certificates.cert.read_bytes())
    key.write_bytes(certificates.key.read_bytes())
    settings = load_settings({"admin_tls_cert": str(cert), "admin_tls_key": str(key)}, None)
    context = tls_of(settings)
    assert context is not None
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    keeping = asyncio.create_task(keep_certificate(context, settings, every=0.01))
    first = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))

    # Half of a new pair changes nothing.
    renewed = make_certificates(tmp_path / "two")
    with structlog.testing.capture_logs() as logs:
        cert.write_bytes(renewed.cert.read_bytes())
        os.utime(cert, ns=(1, 1))
        await eventually(lambda: any(log["event"] == "the Admin API keeps its old certificate" for log in logs))
    assert await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) == first

    key.write_bytes(renewed.key.read_bytes())
    os.utime(key, ns=(2, 2))
    async with asyncio.timeout(10):
        # A handshake is all that shows it.
        while await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) == first:
            pass
    keeping.cancel()
    server.close()
    await server.wait_closed()


# The settings.


def test_named_keys_stand_in_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "waspgate.toml"
    file.write_text(
        f"""
        [[admin_keys]]
        name = "ci"
        role = "admin"
        key_hash = "{hash_key(RANDOM)}"
        resources = ["routes", "upstreams"]
        addresses = ["10.0.0.0/8"]

        [[admin_keys]]
        name = "dashboard"
        role = "viewer"
        key = "{CHOSEN}"
        """
    )
    settings = load_settings({}, file)
    assert [(key.name, key.role, key.resources) for key in settings.admin_keys] == [
        ("ci", "admin", ("routes", "upstreams")),
        ("dashboard", "viewer", None),
    ]
    assert CHOSEN not in repr(settings)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ('name = "a"\nrole = "owner"\nkey = "0123456789abcdef"', "input should be 'admin' or 'viewer'"),
        ('name = "a"\nrole = "viewer"', "key a: expected one of `key` and `key_hash`"),
        ('name = "a"\nrole = "viewer"\nkey = "short"', "should have at least 16"),
        ('name = "a"\nrole = "viewer"\nkey_hash = "md5:x"', "expected a hash of a key"),
        (
            'name = "a"\nrole = "viewer"\nkey = "0123456789abcdef"\nresources = ["rotes"]',
            "expected kinds of .* got 'rotes'",
        ),
        ('name = "a"\nrole = "viewer"\nkey = "0123456789abcdef"\naddresses = ["10.0.0.0/40"]', "expected an address"),
    ],
)
def test_a_wrong_key_is_one_line_that_names_it(tmp_path: Path, table: str, why: str) -> None:
    file = tmp_path / "waspgate.toml"
    file.write_text(f"[[admin_keys]]\n{table}\n")
    with pytest.raises(CommandError, match=f"{file}: admin_keys: .*{why}"):
        load_settings({}, file)


def test_two_keys_have_two_names(tmp_path: Path) -> None:
    file = tmp_path / "waspgate.toml"
    file.write_text('[[admin_keys]]\nname = "a"\nrole = "viewer"\nkey = "0123456789abcdef"\n' * 2)
    with pytest.raises(CommandError, match="two keys have the name 'a'"):
        load_settings({}, file)


def test_keys_are_no_text() -> None:
    with pytest.raises(CommandError, match="stands in the settings file only"):
        load_settings({"admin_keys": "a"}, None)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"admin_tls_cert": "CERT"}, "admin_tls_cert and admin_tls_key: one needs the other"),
        ({"admin_client_ca": "CERT"}, "admin_client_ca: certificates of clients are asked for over TLS only"),
    ],
)
def test_halves_of_tls_are_refused(certificates: Any, options: dict[str, str], why: str) -> None:  # noqa: ANN401
    files = {name: str(certificates.cert) for name in options}
    with pytest.raises(CommandError, match=why):
        check_exposure(load_settings(files, None))
