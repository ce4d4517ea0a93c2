"""`waspgate status`, and waiting for a change, with real workers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from control_plane.cli.status import plain, problems, rows
from tests.support.command import run, wait_until
from tests.support.gateway import answering, ok, upstream
from tests.support.up import KEY, Up, waspgate_up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with upstream(answering(ok())) as server, waspgate_up(tmp_path_factory.mktemp("up"), server.port, 2) as started:
        yield started


def status(up: Up, tmp_path: Path, *options: str) -> CompletedProcess[str]:
    admin = up.admin.base_url.netloc.decode()
    return run(["status", *options], tmp_path, WASPGATE_ADMIN=admin, WASPGATE_ADMIN_KEY=KEY)


def test_when_a_write_is_answered_every_worker_serves_it(up: Up) -> None:
    for number in range(10):
        answer = up.admin.put("routes/1?wait=applied", json={"uri": f"/now-{number}", "upstream": up.upstream})
        assert (answer.is_success, answer.headers["X-Waspgate-Applied"]) == (True, "2")
        assert [up.get(f"/now-{number}").status_code for _ in range(4)] == [200] * 4
    assert up.admin.delete("routes/1?wait=applied").headers["X-Waspgate-Applied"] == "2"
    assert [up.get("/now-9").status_code for _ in range(4)] == [404] * 4


def test_the_table_shows_each_worker(up: Up, tmp_path: Path) -> None:
    assert up.admin.put("routes/1?wait=applied", json={"uri": "/a", "upstream": up.upstream}).is_success
    shown = status(up, tmp_path)
    assert shown.returncode == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0][:2] == ["DATA", "PLANE"]
    assert [(line[4], line[7]) for line in lines[1:]] == [("1/2", "ready"), ("2/2", "ready")]
    (plane,) = json.loads(status(up, tmp_path, "--output", "json").stdout)["list"]
    assert {line[0] for line in lines[1:]} == {plane["id"][:8]}
    assert [worker["worker"] for worker in plane["live_workers"]] == [1, 2]


def test_a_worker_that_is_killed_is_replaced_in_the_table(up: Up) -> None:
    before = up.admin.get("data_planes").json()["list"][0]["live_workers"][0]["pid"]
    os.kill(before, signal.SIGKILL)

    def replaced() -> bool:
        workers = up.admin.get("data_planes").json()["list"][0]["live_workers"]
        return [worker["worker"] for worker in workers] == [1, 2] and before not in {worker["pid"] for worker in workers}

    wait_until(replaced, "another worker stands in its place")
    assert up.admin.put("routes/1?wait=applied", json={"uri": "/b", "upstream": up.upstream}).is_success


def test_what_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    away = run(["status"], tmp_path, WASPGATE_ADMIN="127.0.0.1:1", WASPGATE_ADMIN_KEY=KEY)
    assert (away.returncode, away.stderr.count("\n")) == (1, 1)
    assert "cannot reach the Admin API" in away.stderr


def worker(number: int, revision: int, **more: object) -> dict[str, object]:
    said = {"worker": number, "pid": 10 + number, "revision": revision, "started_at": 1000.0, "ready": True, "stale": False}
    return {**said, "problems": {}, "problems_total": 0, **more}


def test_states_times_and_problems_of_a_table() -> None:
    bad = {"/apisix/routes/1": "bad"}
    workers = [
        worker(1, 9, problems=bad, problems_total=1),
        worker(2, 8, problems=bad, problems_total=1),
        worker(3, 0, ready=False, started_at=4599.5),
        worker(4, 9, stale=True, started_at=-90_000.0),
    ]
    plane = {"id": "0123456789", "host": "h", "listen": "0.0.0.0:80", "version": "1", "workers": 4, "live_workers": workers}
    answer = {"total": 1, "list": [plane]}
    found = rows(answer, 4600.0)
    assert [(row[7], row[8]) for row in found] == [("ready", "1h"), ("ready", "1h"), ("starting", "0s"), ("stale", "1d")]
    assert problems(answer) == ["/apisix/routes/1: bad (2 workers)"]
    assert plain(answer, 4600.0).splitlines()[-1] == "/apisix/routes/1: bad (2 workers)"
    assert plain({"total": 0, "list": []}, 0) == "no data plane is registered"
