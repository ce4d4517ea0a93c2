"""What an operator tunes: the same names in the file and as variables, read by both planes, and errors that say where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.cli.errors import CommandError
from control_plane.cli.settings import Settings as CliSettings
from control_plane.cli.settings import load_settings
from control_plane.cli.up import environment
from data_plane.dns.resolver import servers_of
from data_plane.settings import Settings, SettingsError, load
from shared.settings_file import as_text
from shared.tuning import NAMES, READERS, Tuning
from tests.support.certificates import make_certificates

STORE = "sqlite:///x.db"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CliSettings.model_fields, *NAMES, "config"):
        monkeypatch.delenv(f"WASPGATE_{name.upper()}", raising=False)


def test_every_name_has_a_reader_and_a_default_that_it_reads() -> None:
    assert set(READERS) == set(NAMES)
    for name in NAMES:
        default = getattr(Tuning(), name)
        assert READERS[name](as_text(default)) == default


def test_what_one_plane_knows_the_other_does_not_refuse(tmp_path: Path) -> None:
    """The file is one for both."""
    known = set(CliSettings.model_fields) | set(NAMES)
    file = tmp_path / "waspgate.toml"
    file.write_text("nobody = 1\n")
    with pytest.raises(SettingsError) as caught:
        load(["--store", STORE, "--config", str(file)], {})
    assert f"{file}: nobody: unknown setting; known are " in str(caught.value)
    assert set(str(caught.value).partition("known are ")[2].split(", ")) == known


def test_proxies_are_read_as_they_are_meant(tmp_path: Path) -> None:
    file = tmp_path / "waspgate.toml"
    file.write_text('trusted_addresses = ["10.0.0.0/8", "fd00::1"]\nreal_ip_header = "x-real-ip"\nproxy_protocol = true\n')
    tuning = load(["--store", STORE, "--config", str(file)], {}).tuning
    assert tuning == Tuning(trusted_addresses=("10.0.0.0/8", "fd00::1/128"), real_ip_header="X-Real-IP", proxy_protocol=True)


def test_nobody_can_speak_the_proxy_protocol_who_is_not_trusted() -> None:
    with pytest.raises(SettingsError, match="proxy_protocol: nobody may say whose a connection is unless trusted_addresses"):
        load(["--store", STORE], {"WASPGATE_PROXY_PROTOCOL": "true"})


def test_an_option_beats_the_variable_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "waspgate.toml"
    file.write_text('grace = 1\nsend_timeout = 2.5\nkeepalive_requests = 3\nmemory_limit = "256MiB"\nworkers = 2\n')
    found = load(["--store", STORE, "--config", str(file), "--grace", "7"], {"WASPGATE_KEEPALIVE_REQUESTS": "4"})
    tuning = Tuning(grace=7, send_timeout=2.5, keepalive_requests=4, memory_limit=256 << 20)
    assert (found.tuning, found.workers) == (tuning, 2)
    assert load(["--store", STORE], {"WASPGATE_CONFIG": str(file)}).tuning.grace == 1
    assert load(["--store", STORE], {"WASPGATE_CONFIG": ""}).tuning == Tuning()


def test_the_command_hands_on_what_the_file_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what the file says later is heard by a reload."""
    file = tmp_path / "waspgate.toml"
    file.write_text("workers = 2\nstuck_after = 5\n")
    monkeypatch.setenv("WASPGATE_DRAIN_DELAY", "3")
    given = environment(load_settings({"listen": "127.0.0.1:1234", "admin_key": "secret"}, file))
    assert "secret" not in given.values()

    def now() -> Settings:
        return load([], given)

    assert (now().port, now().workers, now().tuning.stuck_after, now().tuning.drain_delay) == (1234, 2, 5, 3)
    file.write_text("workers = 3\n")
    assert (now().port, now().workers, now().tuning.stuck_after) == (1234, 3, Tuning().stuck_after)


BAD = [
    ("trusted_addresses", "10.0.0.0/8,ten", "expected an address such as 10.0.0.1 or a network such as 10.0.0.0/8, got 'ten'"),
    ("real_ip_header", "X-Whoever", "expected X-Forwarded-For or X-Real-IP, got 'X-Whoever'"),
    ("proxy_protocol", "yes", "expected true or false, got 'yes'"),
    ("ssl_ciphers", "ROT13", "expected ciphers as OpenSSL lists them, with colons between, got 'ROT13'"),
    ("grace", "-1", "expected seconds from 0 to 3600, got '-1'"),
    ("drain_delay", "soon", "expected seconds from 0 to 3600, got 'soon'"),
    ("stuck_after", "inf", "expected seconds from 0 to 3600, got 'inf'"),
    ("keepalive_timeout", "0", "expected seconds from 1 to 3600, got '0'"),
    ("client_header_timeout", "nan", "expected seconds from 0.1 to 3600, got 'nan'"),
    ("max_connections", "0", "expected a number from 1 to 1000000, got '0'"),
    ("max_connections", "1e3", "expected a number from 1 to 1000000, got '1e3'"),
    ("memory_limit", "512MB", "expected bytes, as 512MiB or 2GiB, got '512MB'"),
    ("memory_limit", "1MiB", "expected 0 (none) or at least 134217728 bytes, got '1MiB'"),
    ("dns_resolver", "ns.test", "expected addresses of DNS servers, as 10.0.0.2 or 10.0.0.2:5353, got 'ns.test'"),
    ("dns_resolver", "10.0.0.2:0", "expected a port from 1 to 65535, got '10.0.0.2:0'"),
    ("disable_upstream_healthcheck", "1", "expected true or false, got '1'"),
    ("control_hosts", "gateway:9090", "expected names of hosts without ports, got 'gateway:9090'"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD)
def test_what_is_wrong_is_said_with_its_place(
    name: str, text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"WASPGATE_{name.upper()}"
    with pytest.raises(SettingsError, match=f"^{variable}: {re.escape(said)}$"):
        load(["--store", STORE], {variable: text})
    file = tmp_path / "waspgate.toml"
    file.write_text(f'{name} = "{text}"\n')
    with pytest.raises(SettingsError, match=rf"waspgate\.toml: {name}: {re.escape(said)}$"):
        load(["--store", STORE, "--config", str(file)], {})
    with pytest.raises(CommandError, match=rf"waspgate\.toml: {name}: {re.escape(said)}$"):
        load_settings({}, file)
    monkeypatch.setenv(variable, text)
    with pytest.raises(CommandError, match=f"^{variable}: {re.escape(said)}$"):
        load_settings({}, None)


@pytest.mark.parametrize(
    ("written", "bytes_"), [("0", 0), ("134217728", 1 << 27), ("512MiB", 1 << 29), ("2 GiB", 1 << 31), ("1048576KiB", 1 << 30)]
)
def test_sizes(written: str, bytes_: int) -> None:
    assert READERS["memory_limit"](written) == bytes_


@given(st.sampled_from(NAMES), st.text())
def test_any_text_is_a_value_or_an_error_of_one_line(name: str, text: str) -> None:
    said = ""
    try:
        READERS[name](text)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the settings in .*absent\.toml: No such file or directory"):
        load(["--store", STORE, "--config", str(tmp_path / "absent.toml")], {})
    (tmp_path / "waspgate.toml").write_text("grace 1")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(["--store", STORE, "--config", str(tmp_path / "waspgate.toml")], {})


def test_nothing_is_tuned_that_is_not_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
    written = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    for name in NAMES:
        default = getattr(Tuning(), name)
        # What is empty is said in words.
        assert name in written
        if default not in ((), ""):
            assert READERS[name](written[name].strip("`")) == default, name


def test_dns_servers_have_ports() -> None:
    found = READERS["dns_resolver"]("10.0.0.2, 10.0.0.3:5353,fd00::2,[fd00::3],[fd00::4]:54")
    assert found == ("10.0.0.2:53", "10.0.0.3:5353", "[fd00::2]:53", "[fd00::3]:53", "[fd00::4]:54")
    assert servers_of(found)[-2:] == (("fd00::3", 53), ("fd00::4", 54))
    assert READERS["dns_resolver"](as_text(found)) == found


def test_authorities_are_a_file_of_certificates(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls")
    read = READERS["ssl_trusted_certificate"]
    assert read(str(made.ca)) == str(made.ca)
    for path in (made.key, tmp_path / "none", tmp_path):
        with pytest.raises(ValueError, match=r"expected a file with certificates of authorities \(PEM\)"):
            read(str(path))
