"""`waspgate ARGUMENTS` in this process, as the console script runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.cli import main

BUILT = Path(__file__).resolve().parents[3] / ".build" / "plugins"
GREETING = BUILT / "c-greeting.wasm"


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: str
    err: str


Waspgate = Callable[..., Ended]


@pytest.fixture
def waspgate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Waspgate:
    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr("sys.argv", ["waspgate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return Ended(int(ended.value.code or 0), shown.out, shown.err)

    return run


@pytest.fixture
def greeting() -> Path:
    assert GREETING.is_file(), f"{GREETING} is missing: run `make plugins`"
    return GREETING
