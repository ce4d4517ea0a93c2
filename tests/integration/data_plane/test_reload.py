"""Workers that are replaced under load, that do not answer, and what is said of it: to an operator, and to a prober."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from data_plane.worker import state_directory
from shared.run_file import find_run
from tests.support.command import free_port, get, run, wait_until
from tests.support.data_plane import DataPlane, data_plane
from tests.support.gateway import HOST, answering, ok, upstream
from tests.support.raw_http import RawClient, client


class Load:
    """Clients that ask all the time: one on a connection that it keeps as long as it may, one on new ones."""

    def __init__(self, port: int) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(keeps,)) for keeps in (True, True, False)]

    def _ask(self, keeps: bool) -> None:
        raw: RawClient | None = None
        while not self._over.is_set():
            try:
                raw = RawClient(self._port) if raw is None else raw
                response = raw.get()
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
                return
            self.answers += 1
            if response.status != 200:
                self.failures.append(str(response.status))
            if not keeps or response.field(b"connection") == b"close":
                raw.socket.close()
                raw = None
        if raw is not None:
            raw.socket.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(20)

    def goes_on(self) -> None:
        """Until every client may have been answered a few times more."""
        seen = self.answers
        wait_until(lambda: self.answers > seen + 50 or bool(self.failures), "clients are answered")


def taken_over(gateway: DataPlane, times: int) -> None:
    wait_until(lambda: len(gateway.events("new workers have taken over")) == times, f"{times} reloads", 30)
    wait_until(lambda: len(gateway.events("stopped")) >= times, "the old workers have stopped", 30)


def status(gateway: DataPlane) -> dict[str, Any]:
    started = gateway.events("data plane is starting")[-1]
    response = get(f"http://{started['status']}/status/ready")
    assert response is not None
    answer: dict[str, Any] = response.json()
    return answer | {"code": response.status_code}


def test_workers_are_replaced_without_a_failed_request(tmp_path: Path) -> None:
    settings = tmp_path / "waspgate.toml"
    settings.write_text("workers = 2\nkeepalive_requests = 1000000\n")
    variables = {"WASPGATE_CONFIG": str(settings), "WASPGATE_STATUS": f"{HOST}:0"}
    with upstream(answering(ok())) as server, data_plane(tmp_path, serves=server.port, more=variables) as gateway:
        gateway.ready(2)
        wait_until(lambda: status(gateway)["code"] == 200, "it is ready")
        load = Load(gateway.port)
        with load.running():
            load.goes_on()
            for reloads, workers in enumerate((3, 1, 2), 1):
                before = set(gateway.workers())
                settings.write_text(f"workers = {workers}\n")
                reloaded = run(["reload", "--listen", f"{HOST}:{gateway.port}"], tmp_path)
                assert (reloaded.returncode, reloaded.stderr) == (0, "")
                assert reloaded.stdout == f"new workers serve {HOST}:{gateway.port} (data plane {gateway.process.pid})\n"
                wait_until(lambda: not before & set(gateway.workers()), "the old processes are gone")  # noqa: B023
                assert len(gateway.workers()) == workers + 1
                assert len(gateway.events("new workers have taken over")) == reloads
                assert status(gateway) == {"code": 200, "status": "ok"}
                load.goes_on()
        assert load.failures == []
        assert sum(int(str(event["cut"])) for event in gateway.events("stopped")) == 0
        settings.write_text("workers = 0\n")
        refused = run(["reload", "--listen", f"{HOST}:{gateway.port}", "--config", str(settings)], tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "workers: input should be greater than or equal to 1" in refused.stderr
        # As the data plane itself finds it.
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: bool(gateway.events("settings are not reloaded, the old ones stay")), "it is said")
        (event,) = gateway.events("settings are not reloaded, the old ones stay")
        assert event["reason"] == f"{settings}: workers: expected a number from 1 to 1024, got '0'"
        assert gateway.status() == 200
        settings.write_text("workers = 1\nworker = 1\n")
        refused = run(["reload", "--listen", f"{HOST}:{gateway.port}"], tmp_path)
        assert refused.returncode == 1
        assert "the data plane goes on with its old workers: " in refused.stderr
        assert "worker: unknown setting; known are " in refused.stderr


def test_a_reload_moves_the_address_and_a_taken_one_changes_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "waspgate.toml"
    port, other = free_port(), free_port()
    settings.write_text(f'listen = "{HOST}:{port}"\n')
    variables = {"WASPGATE_CONFIG": str(settings), "WASPGATE_LISTEN": ""}
    with upstream(answering(ok())) as server, data_plane(tmp_path, listen=False, serves=server.port, more=variables) as gateway:
        gateway.ready(1)
        with socket.create_server((HOST, 0)) as taken:
            settings.write_text(f'listen = "{HOST}:{taken.getsockname()[1]}"\n')
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda: bool(gateway.events("settings are not reloaded, the old ones stay")), "it is refused")
        with client(port) as raw:
            assert raw.get().status == 200
            settings.write_text(f'listen = "{HOST}:{other}"\n')
            gateway.process.send_signal(signal.SIGHUP)
            taken_over(gateway, 1)
            with client(other) as moved:
                assert moved.get().status == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port), timeout=5)


def test_new_workers_that_do_not_come_up_leave_the_old_ones(tmp_path: Path) -> None:
    settings = tmp_path / "waspgate.toml"
    settings.write_text("")
    variables = {"WASPGATE_CONFIG": str(settings)}
    with upstream(answering(ok())) as server:
        with data_plane(tmp_path, serves=server.port, more=variables) as gateway:
            gateway.ready(1)
            (old,) = gateway.workers()
            # The new worker waits for a store that is not there, and lets nobody in.
            os.rename(tmp_path / "config.db", tmp_path / "away.db")
            (tmp_path / "config.db").mkdir()
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(gateway.workers()) == 2, "a new worker is there")
            assert [gateway.status() for _ in range(20)] == [200] * 20
            (new,) = set(gateway.workers()) - {old}
            os.kill(new, signal.SIGKILL)
            wait_until(lambda: bool(gateway.events("new workers are of no use, the old ones stay")), "it is given up")
            wait_until(lambda: gateway.workers() == [old], "the old one stays alone")
            assert gateway.status() == 200
            found = find_run(tmp_path / "state" / "waspgate" / "run" / f"{HOST}:{gateway.port}.json")
            assert found is not None
            assert (found.pid, found.reloads) == (gateway.process.pid, 1)
            assert found.error == "the new workers are of no use: one of them ended by itself"
        refused = run(["reload", "--listen", f"{HOST}:{gateway.port}"], tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert f"no data plane of this user listens on {HOST}:{gateway.port}" in refused.stderr


def test_a_worker_that_does_not_answer_is_replaced_and_loses_no_waiting_client(tmp_path: Path) -> None:
    variables = {"WASPGATE_STUCK_AFTER": "1.5"}
    with upstream(answering(ok())) as server, data_plane(tmp_path, serves=server.port, more=variables) as gateway:
        gateway.ready(1)
        (stuck,) = gateway.workers()
        os.kill(stuck, signal.SIGSTOP)
        with client(gateway.port) as raw:
            # It waits in the queue of a worker that does not come, and is served by the next.
            assert raw.get().status == 200
        assert stuck not in gateway.workers()
        (event,) = gateway.events("worker does not answer and is replaced")
        assert (event["pid"], event["worker"]) == (stuck, 1)


def test_readiness_ends_before_the_last_requests_do(tmp_path: Path) -> None:
    variables = {"WASPGATE_STATUS": f"{HOST}:0", "WASPGATE_DRAIN_DELAY": "30"}
    with upstream(answering(ok())) as server, data_plane(tmp_path, serves=server.port, more=variables) as gateway:
        gateway.ready(1)
        wait_until(lambda: status(gateway)["code"] == 200, "it is ready")
        gateway.process.terminate()
        wait_until(lambda: status(gateway)["code"] == 503, "it is not ready any more")
        assert status(gateway)["error"] == "the data plane is stopping"
        assert gateway.status() == 200
        # A second signal ends the delay.
        gateway.process.terminate()
        assert gateway.wait() == 0


def test_state_that_a_killed_gateway_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    with data_plane(tmp_path) as gateway:
        gateway.ready(1)
        left = state_directory(gateway.store)
        assert left.is_dir()
        for pid in (gateway.process.pid, *gateway.workers()):
            os.kill(pid, signal.SIGKILL)
        gateway.wait()
    (tmp_path / "next").mkdir()
    with data_plane(tmp_path / "next") as following:
        following.ready(1)
        assert not left.exists()
        assert state_directory(following.store).is_dir()
    assert not state_directory(following.store).exists()
