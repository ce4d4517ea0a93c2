"""The command line itself: what it shows, and how it refuses."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_plane.cli import main
from control_plane.cli.errors import CommandError

runner = CliRunner()


def test_help_lists_what_exists_and_nothing_else() -> None:
    shown = runner.invoke(main.app, ["--help"]).output
    assert [line.split()[0] for line in shown.partition("Commands:")[2].splitlines() if line.strip()] == [
        "up",
        "control-plane",
        "data-plane",
        "reload",
        "status",
        "apply",
        "diff",
        "dump",
        "explain",
        "plugin",
        "secrets",
    ]


@pytest.mark.parametrize("command", ["up", "control-plane", "data-plane"])
def test_every_command_has_an_example_and_names_its_variables(command: str) -> None:
    shown = runner.invoke(main.app, [command, "--help"]).output
    assert f"Example: waspgate {command} " in shown
    assert "WASPGATE_STORE" in shown


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "version", lambda name: "1.2.3")
    assert runner.invoke(main.app, ["--version"]).output == "waspgate 1.2.3\n"


def test_a_checkout_that_is_not_installed_still_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(main, "version", missing)
    assert runner.invoke(main.app, ["--version"]).output == "waspgate 0+unknown\n"


def test_a_wrong_setting_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["waspgate", "data-plane", "--config", str(tmp_path / "absent.toml")])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    expected = f"waspgate: cannot read the settings in {tmp_path}/absent.toml: No such file or directory\n"
    assert capsys.readouterr().err == expected


def test_errors_carry_their_exit_status() -> None:
    assert CommandError("x").exit_code == 1
