"""`--stream-listen`: the same addresses from options, the variable and the file, in both of the programs that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.errors import CommandError
from control_plane.cli.settings import load_settings
from control_plane.cli.up import environment
from data_plane.settings import SettingsError, StreamListen, load

STORE = ("--store", "sqlite:///x.db")
PLAIN, TLS = StreamListen("127.0.0.1", 9100, False), StreamListen("::1", 9443, True)


@pytest.mark.parametrize(
    ("options", "variable", "expected"),
    [
        ((), "", ()),
        ((), "127.0.0.1:9100", (PLAIN,)),
        ((), " tcp://127.0.0.1:9100, tls://[::1]:9443 ,", (PLAIN, TLS)),
        (("--stream-listen", "127.0.0.1:9100", "--stream-listen", "tls://[::1]:9443"), "0.0.0.0:1", (PLAIN, TLS)),
        ((), "tls-terminate://[::1]:9443", (StreamListen("::1", 9443, False, True),)),
    ],
)
def test_the_data_plane_reads_them(options: tuple[str, ...], variable: str, expected: tuple[StreamListen, ...]) -> None:
    assert load([*STORE, *options], {"WASPGATE_STREAM_LISTEN": variable}).streams == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9100", "expected HOST:PORT"),
        ("::1:9100", "expected "),
        ("127.0.0.1:65536", "expected HOST:PORT"),
        ("udp://127.0.0.1:9100", "expected HOST:PORT, tcp://, tls:// or tls-terminate://HOST:PORT, got 'udp://127.0.0.1:9100'"),
        ("127.0.0.1:9100,tls://", "expected HOST:PORT"),
    ],
)
def test_what_is_no_address(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^--stream-listen: ") as of_the_option:
        load([*STORE, "--stream-listen", text], {})
    with pytest.raises(SettingsError, match=r"^WASPGATE_STREAM_LISTEN: "):
        load(STORE, {"WASPGATE_STREAM_LISTEN": text})
    monkeypatch.setenv("WASPGATE_STREAM_LISTEN", text)
    with pytest.raises(CommandError, match=r"^WASPGATE_STREAM_LISTEN: ") as of_the_command:
        load_settings({}, None)
    assert message.partition(",")[0] in str(of_the_option.value)
    assert message.partition(",")[0] in str(of_the_command.value)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({"stream_listen": ["127.0.0.1:9100", "tls://[::1]:9443"]}, ""),
        ({}, 'stream_listen = ["127.0.0.1:9100", "tls://[::1]:9443"]'),
        ({}, 'stream_listen = "127.0.0.1:9100, tls://[::1]:9443"'),
    ],
)
def test_the_commands_hand_them_on(options: dict[str, Any], file: str, tmp_path: Path) -> None:
    path = tmp_path / "waspgate.toml"
    path.write_text(file)
    handed_on = environment(load_settings(options, path))
    assert load(STORE, handed_on).streams == (PLAIN, TLS)


def test_a_file_that_means_something_else(tmp_path: Path) -> None:
    path = tmp_path / "waspgate.toml"
    path.write_text("stream_listen = 9100")
    with pytest.raises(CommandError, match=r"waspgate\.toml: stream_listen: expected a list of addresses, got 9100"):
        load_settings({}, path)


def test_how_an_operator_reads_them() -> None:
    assert [str(PLAIN), str(TLS)] == ["tcp://127.0.0.1:9100", "tls://[::1]:9443"]
