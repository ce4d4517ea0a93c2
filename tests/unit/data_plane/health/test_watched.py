"""What a balancer and requests see of an upstream's checks, in one worker and over two."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from data_plane.balance.health import TCP_FAILURE
from data_plane.config.snapshot import Node
from data_plane.health.checks import Asking, Checks, compile_checks
from data_plane.health.probe import Finding
from data_plane.health.rows import LocalRows
from data_plane.health.watched import Verdicts, WatchedNodes
from data_plane.upstream_tls.client_tls import ClientTls
from shared.schema.checks import ChecksSpec

A, B = (Node(host, 80, 1, host.encode()) for host in ("10.0.0.1", "10.0.0.2"))

ASKING = Asking("", ClientTls())


def checks(**passive: object) -> Checks:
    return compile_checks(ChecksSpec.model_validate({"active": {}, **({"passive": passive} if passive else {})}))


class Worker:
    """One worker's view; `changes` counts what its balancer is told."""

    def __init__(self, rows: LocalRows, asked: Checks) -> None:
        self.verdicts = Verdicts(rows)
        self.watched = WatchedNodes("upstream/1", asked, ASKING, self.verdicts)
        self.changes = 0
        self.watched.watch(self._changed)
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self.down = set(self.watched.unhealthy((A, B)))

    def poll(self) -> None:
        self.verdicts.refresh()
        self.watched.look()


def test_probes_take_a_node_out_and_bring_it_back() -> None:
    worker = Worker(LocalRows(), checks())
    with capture_logs() as logs:
        for outcome in (TCP_FAILURE, TCP_FAILURE, 200):
            worker.watched.probed(A, Finding(outcome, "refused"))
        assert (worker.down, worker.changes) == ({A}, 2)
        assert worker.watched.nodes(healthy=False) == [A]
        worker.watched.probed(A, Finding(302))
        assert (worker.down, worker.changes) == (set(), 3)
    down, up = logs
    assert down == {
        "event": "upstream node is unhealthy",
        "log_level": "warning",
        "upstream": "upstream/1",
        "node": "10.0.0.1:80",
        "check": "active",
        "counter": "tcp_failure",
        "count": 2,
        "reason": "refused",
    }
    assert (up["event"], up["log_level"]) == ("upstream node is healthy again", "info")


def test_another_worker_hears_of_it() -> None:
    rows = LocalRows()
    one, two = Worker(rows, checks(healthy={})), Worker(rows, checks(healthy={}))
    # Their reports count together.
    one.watched.report(A, TCP_FAILURE)
    two.watched.report(A, TCP_FAILURE)
    assert (one.down, two.down) == (set(), {A})
    one.poll()
    assert one.down == {A}


def test_requests_are_looked_at_where_it_is_asked_for() -> None:
    active, both = Worker(LocalRows(), checks()), Worker(LocalRows(), checks(healthy={}))
    assert (active.watched.reports, both.watched.reports) == (False, True)
    for _ in range(5):
        active.watched.report(A, 500)
        both.watched.report(A, 500)
    assert (active.down, both.down) == (set(), {A})


def test_success_of_a_healthy_node_writes_nothing() -> None:
    rows = LocalRows()
    worker = Worker(rows, checks(healthy={}))
    worker.watched.report(A, 200)
    assert rows.read() == {}


def test_a_node_that_has_left_is_not_judged() -> None:
    rows = LocalRows()
    worker = Worker(rows, checks(healthy={}))
    worker.watched.unhealthy((B,))
    worker.watched.report(A, TCP_FAILURE)
    assert rows.read() == {}


def test_what_is_known_stays_when_nodes_come_and_go() -> None:
    worker = Worker(LocalRows(), checks())
    for _ in range(2):
        worker.watched.probed(A, Finding(TCP_FAILURE))
    other = Node("10.0.0.3", 80, 1, b"10.0.0.3")
    assert set(worker.watched.unhealthy((A, other))) == {A}
    # As does a new version with other intervals.
    worker.watched.update(checks(healthy={}), ASKING)
    assert set(worker.watched.unhealthy((A, B))) == {A}


def test_a_new_version_may_look_elsewhere() -> None:
    worker = Worker(LocalRows(), checks())
    elsewhere = compile_checks(ChecksSpec.model_validate({"active": {"port": 81}}))
    worker.watched.update(elsewhere, ASKING)
    assert {key.split(b"\0")[2] for key in worker.watched.rows()} == {b"81"}
    for _ in range(2):
        worker.watched.probed(A, Finding(TCP_FAILURE))
    assert worker.down == {A}


def test_it_is_said_when_no_node_is_left() -> None:
    worker = Worker(LocalRows(), checks())
    with capture_logs() as logs:
        for node in (A, B):
            for _ in range(2):
                worker.watched.probed(node, Finding(TCP_FAILURE))
        worker.watched.unhealthy((A, B))
    said = [line["event"] for line in logs]
    assert said.count("all nodes of an upstream are unhealthy, all of them take traffic") == 1


@pytest.mark.parametrize(
    ("active", "row"),
    [
        ({}, b"upstream/1\x0010.0.0.1\x0080\x0010.0.0.1"),
        ({"port": 81, "host": "a.test"}, b"upstream/1\x0010.0.0.1\x0081\x00a.test"),
    ],
)
def test_rows_say_what_is_checked(active: dict[str, object], row: bytes) -> None:
    worker = Worker(LocalRows(), compile_checks(ChecksSpec.model_validate({"active": {"type": "tcp", **active}})))
    assert worker.watched.rows()[row] == b"\0\0\0\0\0tcp"
