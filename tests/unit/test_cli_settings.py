"""Settings: one order of precedence, and errors that name the source of the wrong value."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.cli.errors import USAGE, CommandError
from control_plane.cli.key_file import read_key_file
from control_plane.cli.settings import Address, check_exposure, load_settings, state_directory
from control_plane.cli.up import environment


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STORE", "ADMIN", "LISTEN", "WORKERS", "ADMIN_KEY", "ADMIN_KEY_FILE", "CONFIG"):
        monkeypatch.delenv(f"WASPGATE_{name}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "waspgate.toml"
    path.write_text(text)
    return path


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings({}, None)
    assert str(settings.admin) == "127.0.0.1:9180"
    assert str(settings.listen) == "127.0.0.1:9080"
    assert settings.workers == 1
    assert settings.store == f"sqlite://{tmp_path}/state/waspgate/config.db"
    assert settings.key_directory == state_directory() == tmp_path / "state" / "waspgate"


def test_the_admin_key_can_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of-a-secret\n")
    settings = load_settings({"admin": "0.0.0.0:9180", "admin_key_file": str(file), "allow_plain_admin": True}, None)
    check_exposure(settings)
    assert settings.admin_key_file == file
    assert read_key_file(file) == "of-a-secret"
    assert "WASPGATE_ADMIN_KEY_FILE" not in environment(settings)
    with pytest.raises(CommandError, match="--admin-key and --admin-key-file: give one of the two"):
        load_settings({"admin_key": "another", "admin_key_file": str(file)}, None)


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", "schl\u00fcssel".encode()])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="does not hold a key: expected one line of printable ASCII"):
        read_key_file(file)


def test_an_option_beats_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(tmp_path, 'listen = "127.0.0.1:1"\nadmin = "127.0.0.1:1"\nworkers = 1\n')
    monkeypatch.setenv("WASPGATE_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("WASPGATE_ADMIN", "127.0.0.1:2")
    settings = load_settings({"listen": "127.0.0.1:3", "workers": None}, file)
    assert (settings.listen.port, settings.admin.port, settings.workers) == (3, 2, 1)


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASPGATE_CONFIG", str(config(tmp_path, "workers = 3\n")))
    assert load_settings({}, None).workers == 3


@pytest.mark.parametrize(
    ("option", "environment", "file", "message"),
    [
        ({"listen": "9080"}, {}, "", "--listen: expected HOST:PORT, got '9080'"),
        ({"listen": "::1:9080"}, {}, "", "--listen: expected an IPv6 address in brackets"),
        ({"admin": "127.0.0.1:70000"}, {}, "", "--admin: expected HOST:PORT"),
        ({"store": "mysql://x"}, {}, "", "--store: unknown kind of store 'mysql'"),
        ({"store": "sqlite://x/y"}, {}, "", "--store: a sqlite URL has three slashes"),
        ({"admin_key": ""}, {}, "", "--admin-key: "),
        ({"trace_key": "short"}, {}, "", "--trace-key: expected 16 characters or more of printable ASCII without blanks"),
        ({"registry_config": "/absent"}, {}, "", "--registry-config: there is no file /absent that can be read"),
        (
            {},
            {"ALLOW_PRIVATE_MODULE_SOURCES": "maybe"},
            "",
            "WASPGATE_ALLOW_PRIVATE_MODULE_SOURCES: input should be a valid bool",
        ),
        ({}, {"WORKERS": "many"}, "", "WASPGATE_WORKERS: input should be a valid integer"),
        ({}, {"WORKERS": "0"}, "", "WASPGATE_WORKERS: input should be greater than or equal to 1"),
        ({}, {}, "workers = -1", "waspgate.toml: workers: input should be greater than or equal to 1"),
        (
            {},
            {},
            "worker = 1",
            "waspgate.toml: worker: unknown setting; known are store, admin, listen",
        ),
        ({}, {}, "workers = x", "waspgate.toml is not TOML: Invalid value (at line 1, column 11)"),
    ],
)
def test_an_error_names_the_source_and_the_value(
    option: dict[str, str],
    environment: dict[str, str],
    file: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"WASPGATE_{name}", value)
    with pytest.raises(CommandError) as caught:
        load_settings(option, config(tmp_path, file))
    assert message in str(caught.value)
    assert caught.value.exit_code == USAGE


def test_where_modules_may_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({}, None).allow_private_module_sources is False
    (tmp_path / "config.json").touch()
    monkeypatch.setenv("WASPGATE_ALLOW_PRIVATE_MODULE_SOURCES", "true")
    monkeypatch.setenv("WASPGATE_REGISTRY_CONFIG", str(tmp_path / "config.json"))
    settings = load_settings({}, None)
    assert (settings.allow_private_module_sources, settings.registry_config) == (True, tmp_path / "config.json")
    assert load_settings({"allow_private_module_sources": False}, None).allow_private_module_sources is False


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"absent\.toml: No such file or directory"):
        load_settings({}, tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "host", "port"), [("[::1]:80", "::1", 80), ("0.0.0.0:0", "0.0.0.0", 0), ("localhost:9", "localhost", 9)]
)
def test_addresses_survive_a_round_trip(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address(host, port)) == text


@pytest.mark.parametrize(("store", "folder"), [("sqlite:///var/x/c.db", "/var/x"), ("sqlite:///./x/c.db", "x")])
def test_the_key_lies_beside_the_data(store: str, folder: str) -> None:
    assert load_settings({"store": store}, None).key_directory == Path(folder)


def test_with_etcd_the_key_lies_in_the_state_directory_and_no_password_is_shown() -> None:
    settings = load_settings({"store": "etcd://user:secret@127.0.0.1:2379"}, None)
    assert settings.key_directory == state_directory()
    assert settings.store_without_password == "etcd://***@127.0.0.1:2379"


@pytest.mark.parametrize("admin", ["0.0.0.0:9180", "[::]:9180", "10.0.0.1:9180", "gateway.example:9180"])
def test_an_admin_api_that_others_reach_needs_a_chosen_key(admin: str) -> None:
    with pytest.raises(CommandError, match="choose its key"):
        check_exposure(load_settings({"admin": admin}, None))
    chosen = {"admin": admin, "admin_key": "chosen"}
    check_exposure(load_settings({**chosen, "allow_plain_admin": True}, None))
    with pytest.raises(CommandError, match="would travel in the clear: set --admin-tls-cert and --admin-tls-key, or say"):
        check_exposure(load_settings(chosen, None))


@pytest.mark.parametrize("admin", ["127.0.0.1:9180", "[::1]:9180", "localhost:9180", "127.8.8.8:1"])
def test_a_loopback_admin_api_may_make_its_key(admin: str) -> None:
    check_exposure(load_settings({"admin": admin}, None))


def test_a_key_is_not_shown_by_repr() -> None:
    assert "secret" not in repr(load_settings({"admin_key": "secret"}, None))
