"""State in memory that nobody uses any more is deleted, and none that somebody does, whoever starts or ends meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.proxy_wasm.state import claim, directory
from shared.proxy_wasm.state.claim import Claim, sweep
from shared.proxy_wasm.state.directory import HostStateError, memory_directory
from shared.proxy_wasm.state.host_state import HostState

MAP_SIZE = 1 << 20


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (claim, directory):
        monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    return tmp_path


@pytest.fixture
def left() -> Path:
    """What a killed gateway leaves: tables, and a pipe that nobody reads."""
    place = memory_directory("left")
    pid = os.fork()
    if not pid:
        Claim(place)
        HostState(place, MAP_SIZE)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list(place.iterdir())) > 2
    return place


def test_what_a_killed_process_left_is_deleted(left: Path) -> None:
    assert sweep() == [left]
    assert not left.exists()
    assert sweep() == []


def test_what_somebody_uses_is_not(left: Path) -> None:
    mine = Claim(left)
    assert sweep() == []
    assert left.is_dir()
    mine.release()
    assert not left.exists()


def test_a_worker_that_lives_is_enough(left: Path) -> None:
    """As one of a data plane that knows no claims."""
    state = HostState(left, MAP_SIZE)
    assert sweep() == []
    state.close()
    assert sweep() == [left]


def test_the_last_one_deletes() -> None:
    place = memory_directory("mine")
    first, second = Claim(place), Claim(place)
    first.release()
    assert place.is_dir()
    second.release()
    assert not place.exists()


def test_others_files_are_left_alone(memory: Path) -> None:
    (memory / "waspgate-file").write_text("no directory")
    (memory / "somebody-else").mkdir()
    (memory / "waspgate-full").mkdir(mode=0o700)
    (memory / "waspgate-full" / "precious").write_text("not ours")
    assert sweep() == []
    assert (memory / "waspgate-full" / "precious").exists()


def test_a_directory_that_others_can_enter_is_refused(memory: Path) -> None:
    (memory / "waspgate-open").mkdir(mode=0o755)
    with pytest.raises(HostStateError, match="others may enter it"):
        Claim(memory / "waspgate-open")
