"""The data plane as processes: workers that crash, drain, run out of files, and a supervisor that outlives or is outlived."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import ROOT, free_port, wait_until
from tests.support.data_plane import data_plane
from tests.support.gateway import HOST, UpstreamSide, answering, ok, upstream
from tests.support.raw_http import RawClient, client, took


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_worker_is_replaced_within_a_second(tmp_path: Path) -> None:
    with upstream(answering(ok())) as server, data_plane(tmp_path, "--workers", "2", serves=server.port) as gateway:
        gateway.ready(2)
        victim, other = gateway.workers()
        os.kill(victim, signal.SIGKILL)
        with took(0, 1):
            wait_until(lambda: len(gateway.events("ready")) == 3, "a new worker is ready")
        assert gateway.status() == 200
        assert other in gateway.workers()
        assert len(gateway.workers()) == 2
        (event,) = gateway.events("worker ended by itself")
        assert (event["pid"], event["status"], event["restart_in"]) == (victim, -9, 0)


def test_a_worker_that_keeps_crashing_is_given_pauses(tmp_path: Path) -> None:
    with data_plane(tmp_path) as gateway:
        for crashes in range(1, 4):
            gateway.ready(crashes)
            os.kill(gateway.workers()[0], signal.SIGKILL)
            wait_until(lambda: len(gateway.events("worker ended by itself")) == crashes, "the crash is seen")  # noqa: B023
        gateway.ready(4)
        assert [event["restart_in"] for event in gateway.events("worker ended by itself")] == [0, 0.1, 0.2]


class Slow:
    """An upstream that answers the second request when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, side: UpstreamSide) -> None:
        while head := side.head():
            if b"/slow" in head:
                self.asked.set()
                self.go_on.wait(20)
            side.send(ok(b"done"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_what_is_in_flight_end(tmp_path: Path, number: int) -> None:
    slow = Slow()
    with upstream(slow) as server, data_plane(tmp_path, "--workers", "2", serves=server.port) as gateway:
        gateway.ready(2)
        with client(gateway.port) as busy, client(gateway.port) as idle:
            assert idle.get().status == 200
            busy.send(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
            assert slow.asked.wait(5)
            gateway.process.send_signal(number)
            assert idle.closes_within(2)
            wait_until(lambda: gateway.status() is None, "nobody is let in")
            assert gateway.process.poll() is None
            slow.go_on.set()
            response = busy.response()
            assert (response.status, response.body) == (200, b"done")
            assert response.field(b"connection") == b"close"
            assert gateway.wait() == 0
        assert [event["cut"] for event in gateway.events("stopped")] == [0, 0]


def test_the_grace_ends(tmp_path: Path) -> None:
    slow = Slow()
    with upstream(slow) as server, data_plane(tmp_path, "--grace", "0.5", serves=server.port) as gateway:
        gateway.ready(1)
        with client(gateway.port) as busy:
            busy.send(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
            assert slow.asked.wait(5)
            with took(0.4, 2):
                gateway.process.terminate()
                assert gateway.wait() == 0
            assert busy.rest() == b""
            slow.go_on.set()
        assert [event["cut"] for event in gateway.events("stopped")] == [1]


def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    with data_plane(tmp_path, "--workers", "2") as gateway:
        gateway.ready(2)
        workers = gateway.workers()
        gateway.process.kill()
        gateway.wait()
        wait_until(lambda: not any(map(is_running, workers)), "the workers end", 5)


def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    with data_plane(tmp_path, store=f"etcd://{HOST}:{free_port()}") as gateway:
        wait_until(lambda: gateway.status() == 503, "it answers")
        gateway.process.terminate()
        assert gateway.wait() == 0


def test_running_out_of_files_is_survived(tmp_path: Path) -> None:
    with upstream(answering(ok())) as server, data_plane(tmp_path, files=128, serves=server.port) as gateway:
        gateway.ready(1)
        crowd = [RawClient(gateway.port) for _ in range(200)]
        answers = [answer_of(one) for one in crowd]
        assert answers.count(200) >= 16
        assert answers.count(503) + answers.count(200) + answers.count(None) == 200
        for one in crowd:
            one.socket.close()
        with took(0, 1):
            wait_until(lambda: gateway.status() == 200, "it serves again")
        assert not gateway.events("worker ended by itself")


def answer_of(one: RawClient) -> int | None:
    one.socket.settimeout(2)
    try:
        return one.get().status
    except (OSError, EOFError):
        return None


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WASPGATE_")}
    command = [sys.executable, "-m", "data_plane", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**clean, **(environment or {})}, capture_output=True, text=True, timeout=20, check=False
    )
    return done.returncode, done.stderr


def test_an_address_in_use_is_one_line(tmp_path: Path) -> None:
    with data_plane(tmp_path) as gateway:
        gateway.ready(1)
        status, said = run("--store", gateway.store, "--listen", f"{HOST}:{gateway.port}")
        assert status == 1
        assert said == f"waspgate data-plane: cannot listen on {HOST}:{gateway.port} (--listen): Address already in use\n"
    with socket.create_server((HOST, 0)) as other:
        status, said = run("--store", "sqlite:////tmp/x.db", "--listen", f"{HOST}:{other.getsockname()[1]}")
        assert (status, said.count("\n")) == (1, 1)


BAD_SETTINGS: list[tuple[tuple[str, ...], dict[str, str], str]] = [
    ((), {}, "--store (or WASPGATE_STORE) is needed"),
    (("--store", "mysql://x"), {}, "--store: unknown kind of store 'mysql', expected sqlite, etcd, etcds or yaml"),
    (
        ("--store", "sqlite:///x", "--listen", "9080"),
        {},
        "--listen: expected HOST:PORT with an IPv6 address in brackets, got '9080'",
    ),
    (("--store", "sqlite:///x", "--listen", "::1:80"), {}, "--listen: expected HOST:PORT"),
    (("--store", "sqlite:///x", "--listen", "a:99999"), {}, "--listen: expected HOST:PORT"),
    (("--store", "sqlite:///x"), {"WASPGATE_WORKERS": "0"}, "WASPGATE_WORKERS: expected a number from 1 to 1024, got '0'"),
    (("--store", "sqlite:///x", "--workers", "two"), {}, "--workers: expected a number"),
    (("--store", "sqlite:///x", "--grace", "nan"), {}, "--grace: expected seconds from 0 to 3600, got 'nan'"),
]


@pytest.mark.parametrize(("arguments", "environment", "said"), BAD_SETTINGS)
def test_a_bad_setting_is_one_line(arguments: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    status, printed = run(*arguments, environment=environment)
    assert status == 2
    assert printed.startswith(f"waspgate data-plane: {said}")
    assert printed.count("\n") == 1


def test_a_change_is_served_without_a_failed_request(tmp_path: Path) -> None:
    stop = threading.Event()
    statuses: list[int] = []

    def keep_asking(port: int) -> None:
        with client(port) as raw:
            while not stop.is_set():
                statuses.append(raw.get().status)

    with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"two"))) as two, data_plane(tmp_path) as gateway:
        gateway.serve(one.port)
        asking = threading.Thread(target=keep_asking, args=(gateway.port,))
        asking.start()
        seen: Callable[[], bytes] = lambda: body_of(gateway.port)  # noqa: E731
        for server, body in ((two, b"two"), (one, b"one")) * 3:
            gateway.serve(server.port)
            wait_until(lambda: seen() == body, "the change is live", 5)  # noqa: B023
        stop.set()
        asking.join(5)
    assert set(statuses) == {200}
    assert len(statuses) > 20


def body_of(port: int) -> bytes:
    with client(port) as raw:
        return raw.get().body


def test_time_goes_on_while_workers_start(tmp_path: Path) -> None:
    """A worker is forked from a process that has imported everything: starting it is a matter of milliseconds."""
    with data_plane(tmp_path) as gateway:
        gateway.ready(1)
        began = time.monotonic()
        os.kill(gateway.workers()[0], signal.SIGKILL)
        wait_until(lambda: gateway.status() == 404, "it answers again")
        assert time.monotonic() - began < 1
