"""Who may open the state, who is alive, what is left behind."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

import pytest

from shared.proxy_wasm.state import environment as environment_module
from shared.proxy_wasm.state.census import bury
from shared.proxy_wasm.state.directory import HostStateError, discard, memory_directory, pipe_path, prepare
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.workers import Worker


def test_the_directory_is_made_for_its_user_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    prepare(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    prepare(directory)


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o777])
def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(HostStateError, match=rf"state: others may enter it \(mode {mode:o}\), expected mode 700"):
        prepare(directory)


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostStateError, match="state: expected a directory, found a link or a file"):
        prepare(tmp_path / "state")


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "state")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(HostStateError, match=r"belongs to user \d+, expected user 12345"):
        prepare(tmp_path / "state")


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostStateError, match="state: cannot be made: Not a directory"):
        prepare(tmp_path / "file" / "state")


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    prepare(directory)
    (directory / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(HostStateError, match=r"state: cannot be opened: .*MDB_INVALID"):
        Environment(directory)


def test_too_little_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "bytes_available", lambda directory: 5000)
    with pytest.raises(HostStateError, match="5000 bytes available, expected at least 1048576"):
        Environment(tmp_path / "state")


def test_what_the_file_system_has_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "bytes_available", lambda directory: 64 << 20)
    environment = Environment(tmp_path / "state")
    assert environment.statistics()["bytes_limit"] == 48 << 20
    environment.close()


def test_the_place_in_memory() -> None:
    assert memory_directory("edge") == Path("/dev/shm/waspgate-edge")


def test_workers_are_numbered_and_never_twice(environment: Environment) -> None:
    numbers = []
    for _ in range(3):
        worker = Worker(environment)
        numbers.append(worker.number)
        worker.close()
    assert numbers == [1, 2, 3]


def test_a_worker_that_leaves_counts_as_dead(environment: Environment, worker: Worker, other: Worker) -> None:
    assert worker.dead() == []
    assert worker.wake(other.number)
    other.close()
    assert not worker.wake(other.number)
    assert worker.dead() == [other.number]
    assert bury(environment, worker) == 1
    assert worker.dead() == []


def test_a_pipe_that_nobody_reads_is_a_dead_worker_whether_or_not_it_is_there(
    environment: Environment, worker: Worker, other: Worker
) -> None:
    other.close()
    path = pipe_path(environment.directory, other.number)
    os.mkfifo(path)
    assert not worker.wake(other.number)
    bury(environment, worker)
    assert not path.exists()


def test_a_wake_up_is_seen_until_drained(worker: Worker, other: Worker) -> None:
    def awake() -> bool:
        return bool(select.select([worker.ready_fd()], [], [], 0)[0])

    assert not awake()
    other.wake(worker.number)
    other.wake(worker.number)
    assert awake()
    worker.drain()
    assert not awake()
    worker.drain()


def test_a_worker_that_never_looks_is_woken_without_waiting(worker: Worker, other: Worker) -> None:
    for _ in range(70_000):
        assert other.wake(worker.number)
    worker.drain()
    worker.drain()
    assert not select.select([worker.ready_fd()], [], [], 0)[0]


def test_a_worker_is_not_taken_for_dead_when_descriptors_run_out(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "open", refuse)
    assert worker.wake(other.number)
    assert worker.dead() == []


def test_a_worker_that_dies_while_it_is_woken_is_dead(worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pipe: int, message: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, "broken pipe")

    monkeypatch.setattr(os, "write", refuse)
    assert not worker.wake(other.number)


def test_a_pipe_left_by_one_who_never_finished_joining_is_replaced(environment: Environment) -> None:
    os.mkfifo(pipe_path(environment.directory, 1))
    worker = Worker(environment)
    assert worker.wake(1)
    worker.close()


def test_a_worker_that_cannot_join_says_so(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "mkfifo", refuse)
    with pytest.raises(HostStateError, match=r"a worker cannot join: .*not permitted"):
        Worker(environment)
    monkeypatch.undo()
    worker = Worker(environment)
    assert worker.number == 1
    worker.close()


def test_discard_refuses_while_a_worker_lives(environment: Environment, worker: Worker) -> None:
    with pytest.raises(HostStateError, match="still used by worker-1"):
        discard(environment.directory)


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    state = HostState(directory)
    os.mkfifo(pipe_path(directory, 99))
    state.close()
    discard(directory)
    assert not directory.exists()
    discard(directory)


def test_a_state_is_opened_again_with_what_was_in_it(tmp_path: Path) -> None:
    for life in range(3):
        state = HostState(tmp_path / "state")
        plugin = state.plugin_metrics()
        _, metric = plugin.define(0, b"lives")
        plugin.increment(metric, 1)
        assert plugin.get(metric)[1] == life + 1
        found = state.data.get("vm", b"k")
        assert found == (None if life == 0 else (b"%d" % (life - 1), life))
        state.data.set("vm", b"k", b"%d" % life)
        assert [metric.value for metric in state.collect()] == [life + 1]
        state.close()


def test_one_object_is_the_whole_of_it(tmp_path: Path) -> None:
    state = HostState(tmp_path / "state")
    _, queue = state.queues.register("vm", b"q", 7)
    state.queues.enqueue(queue, b"x")
    assert select.select([state.ready_fd()], [], [], 0)[0]
    assert state.take_ready() == [(7, queue)]
    state.tend()
    assert set(state.statistics()) == {"environment", "shared_data", "shared_queues", "metrics"}
    assert f"{tmp_path / 'state'} <Worker 1 pid={os.getpid()}>" in repr(state)
    assert "failures=0" in repr(state.environment)
    state.close()
