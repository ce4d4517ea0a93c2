from __future__ import annotations

from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.health import HealthTable
from shared.proxy_wasm.state.workers import Worker


def test_a_change_sees_what_another_worker_wrote(environment: Environment, worker: Worker, other: Worker) -> None:
    one, two = HealthTable(environment, worker), HealthTable(environment, other)
    assert one.change(b"a", lambda row: (b"1" if row is None else b"?", True)) == b"1"
    assert two.change(b"a", lambda row: (row + b"2" if row else b"?", True)) == b"12"
    assert one.read() == {b"a": b"12"}


def test_the_version_moves_with_what_others_must_hear_of(environment: Environment, worker: Worker) -> None:
    table = HealthTable(environment, worker)
    versions = [table.version()]
    for row, heard in [(b"1", True), (b"2", False), (b"2", True)]:
        table.change(b"a", lambda _, row=row, heard=heard: (row, heard))  # type: ignore[misc]  # bound at once
        versions.append(table.version())
    assert versions == [0, 1, 1, 2]
    assert table.read() == {b"a": b"2"}


def test_rows_that_are_kept(environment: Environment, worker: Worker) -> None:
    table = HealthTable(environment, worker)
    table.keep({b"a": b"fresh", b"b": b"fresh"})
    table.change(b"a", lambda _: (b"old", False))
    before = table.version()
    table.keep({b"a": b"fresh", b"b": b"fresh"})
    assert table.version() == before
    table.keep({b"a": b"fresh", b"c": b"fresh"})
    assert table.read() == {b"a": b"old", b"c": b"fresh"}
    assert table.version() == before + 1


def test_the_oldest_worker_that_lives_leads(environment: Environment) -> None:
    first, second = Worker(environment), Worker(environment)
    assert HealthTable(environment, first).leads()
    assert not HealthTable(environment, second).leads()
    first.close()
    assert HealthTable(environment, second).leads()
    second.close()
