"""`waspgate up` as a process tree: it starts both planes, stops both, and hides the end of neither."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import Command, answers, free_port, running, wait_until


@dataclass(frozen=True, slots=True)
class Gateway:
    command: Command
    admin: str
    listen: str

    @property
    def children(self) -> dict[str, int]:
        """The pids of the planes, by the module that each runs."""
        pid = self.command.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {plane: int(child) for child in listed for plane in ("control_plane", "data_plane") if runs(child, plane)}


def runs(pid: str, module: str) -> bool:
    return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


def is_gone(pid: int) -> bool:
    """Ended, or only waiting for its parent to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return True


@contextmanager
def gateway(folder: Path) -> Iterator[Gateway]:
    admin, listen = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with running(["up", "--admin", admin, "--listen", listen], folder) as command:
        command.wait_for(f"http://{admin}/apisix/admin/routes", 401)
        command.wait_for(f"http://{listen}/", 404)
        yield Gateway(command, admin, listen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_stops_both_planes_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    with gateway(tmp_path) as up:
        children = up.children
        assert sorted(children) == ["control_plane", "data_plane"]
        assert up.command.stop(number) == 0
        assert all(is_gone(pid) for pid in children.values())
        assert "ended by itself" not in up.command.output


@pytest.mark.parametrize(("dies", "name"), [("data_plane", "data plane"), ("control_plane", "control plane")])
def test_a_plane_that_dies_takes_the_whole_with_it(tmp_path: Path, dies: str, name: str) -> None:
    with gateway(tmp_path) as up:
        children = up.children
        os.kill(children[dies], signal.SIGKILL)
        assert up.command.wait() == 1
        assert f"the {name} ended by itself" in up.command.output
        assert all(is_gone(pid) for pid in children.values())


def test_no_plane_outlives_a_killed_parent(tmp_path: Path) -> None:
    with gateway(tmp_path) as up:
        children = up.children
        up.command.process.kill()
        wait_until(lambda: all(is_gone(pid) for pid in children.values()), "the planes end with their parent")
        assert not answers(f"http://{up.listen}/", 404)


def test_a_port_in_use_ends_everything_with_one_clear_line(tmp_path: Path) -> None:
    with gateway(tmp_path) as first:
        second = tmp_path / "second"
        second.mkdir()
        with running(["up", "--admin", first.admin, "--listen", f"127.0.0.1:{free_port()}"], second) as command:
            assert command.wait() == 1
            assert f"waspgate: cannot listen on {first.admin} (--admin): Address already in use" in command.output
            assert "Traceback" not in command.output
