"""Plugins' metrics: every status of proxy_*_metric, and sums over workers that stay exact when workers die."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state import census, metrics
from shared.proxy_wasm.state.census import bury
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.metric_table import BUCKETS, Metric, MetricKind, collect
from shared.proxy_wasm.state.metrics import FLUSH_BATCH, NAME_BYTES, PluginMetrics, WorkerMetrics
from shared.proxy_wasm.state.workers import Worker

COUNTER, GAUGE, HISTOGRAM = MetricKind
I64_MIN, I64_MAX, U64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


@pytest.fixture
def counted(environment: Environment, worker: Worker) -> WorkerMetrics:
    return WorkerMetrics(environment, worker)


@pytest.fixture
def plugin(counted: WorkerMetrics) -> PluginMetrics:
    return PluginMetrics(counted)


def defined(plugin: PluginMetrics, kind: MetricKind, name: bytes = b"m") -> int:
    status, metric = plugin.define(kind, name)
    assert status is Status.OK
    return metric


def value(plugin: PluginMetrics, metric: int) -> int:
    status, found = plugin.get(metric)
    assert status is Status.OK
    return found


def test_ids_tell_the_kind_as_envoys_do(plugin: PluginMetrics) -> None:
    kinds = [COUNTER, COUNTER, GAUGE, HISTOGRAM, GAUGE, COUNTER, HISTOGRAM]
    ids = [defined(plugin, kind, b"%d" % number) for number, kind in enumerate(kinds)]
    assert ids == [4, 8, 5, 6, 9, 12, 10]
    assert [MetricKind(metric & 3) for metric in ids] == kinds


@pytest.mark.parametrize("kind", MetricKind)
def test_a_name_defined_again_is_the_same_stat(plugin: PluginMetrics, kind: MetricKind) -> None:
    assert defined(plugin, kind) == defined(plugin, kind)


def test_a_name_is_another_stat_under_another_kind(plugin: PluginMetrics) -> None:
    counter, gauge = defined(plugin, COUNTER), defined(plugin, GAUGE)
    plugin.increment(counter, 3)
    plugin.increment(gauge, 4)
    assert (value(plugin, counter), value(plugin, gauge)) == (3, 4)


def test_two_plugins_share_a_stat_by_its_name_and_not_by_its_id(plugin: PluginMetrics, counted: WorkerMetrics) -> None:
    second = PluginMetrics(counted)
    metric = defined(plugin, COUNTER)
    assert second.increment(metric, 1) is Status.NOT_FOUND
    same = defined(second, COUNTER)
    plugin.increment(metric, 1)
    second.increment(same, 2)
    assert value(plugin, metric) == value(second, same) == 3


@pytest.mark.parametrize("kind", [-1, 3, 4, 2**32 - 1])
def test_an_unknown_kind_is_a_bad_argument(plugin: PluginMetrics, kind: int) -> None:
    assert plugin.define(kind, b"m") == (Status.BAD_ARGUMENT, 0)


def test_a_name_has_a_limit(plugin: PluginMetrics) -> None:
    assert plugin.define(COUNTER, b"n" * NAME_BYTES)[0] is Status.OK
    assert plugin.define(COUNTER, b"n" * NAME_BYTES + b"n") == (Status.BAD_ARGUMENT, 0)
    assert plugin.define(COUNTER, b"")[0] is Status.OK


def test_stats_have_a_limit(plugin: PluginMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "STATS_PER_WORKER", 2)
    first = defined(plugin, COUNTER, b"1")
    defined(plugin, GAUGE, b"1")
    assert plugin.define(COUNTER, b"3") == (Status.INTERNAL_FAILURE, 0)
    assert defined(plugin, COUNTER, b"1") == first


@pytest.mark.parametrize("metric", [0, 1, 4, 5, 6, 7, -1, 2**32 - 1])
def test_an_unknown_id_is_not_found(plugin: PluginMetrics, metric: int) -> None:
    assert plugin.increment(metric, 1) is Status.NOT_FOUND
    assert plugin.record(metric, 1) is Status.NOT_FOUND
    assert plugin.get(metric) == (Status.NOT_FOUND, 0)


INCREMENTS = [
    (COUNTER, 1, Status.OK, 11),
    (COUNTER, I64_MAX, Status.OK, I64_MAX + 10),
    (COUNTER, 0, Status.BAD_ARGUMENT, 10),
    (COUNTER, -1, Status.BAD_ARGUMENT, 10),
    (COUNTER, I64_MIN, Status.BAD_ARGUMENT, 10),
    (GAUGE, 1, Status.OK, 11),
    (GAUGE, 0, Status.OK, 10),
    (GAUGE, -10, Status.OK, 0),
    (GAUGE, -12, Status.OK, U64_MAX - 1),
]


@pytest.mark.parametrize(("kind", "delta", "status", "after"), INCREMENTS)
def test_increment_from_10(plugin: PluginMetrics, kind: MetricKind, delta: int, status: Status, after: int) -> None:
    metric = defined(plugin, kind)
    assert plugin.record(metric, 10) is Status.OK
    assert plugin.increment(metric, delta) is status
    assert value(plugin, metric) == after


RECORDS = [
    (COUNTER, 5, 15),
    (COUNTER, 0, 10),
    (COUNTER, U64_MAX, 9),
    (COUNTER, -1, 9),
    (GAUGE, 5, 5),
    (GAUGE, 0, 0),
    (GAUGE, U64_MAX, U64_MAX),
    (GAUGE, -1, U64_MAX),
]


@pytest.mark.parametrize(("kind", "recorded", "after"), RECORDS)
def test_record_after_10(plugin: PluginMetrics, kind: MetricKind, recorded: int, after: int) -> None:
    metric = defined(plugin, kind)
    plugin.increment(metric, 10)
    assert plugin.record(metric, recorded) is Status.OK
    assert value(plugin, metric) == after


def test_a_histogram_only_records(plugin: PluginMetrics) -> None:
    metric = defined(plugin, HISTOGRAM)
    assert plugin.increment(metric, 1) is Status.BAD_ARGUMENT
    assert plugin.get(metric) == (Status.BAD_ARGUMENT, 0)
    assert plugin.record(metric, 1) is Status.OK


def test_a_histogram_counts_each_sample_at_or_below_its_bound(
    environment: Environment, plugin: PluginMetrics, counted: WorkerMetrics
) -> None:
    metric = defined(plugin, HISTOGRAM)
    samples = [0, 1, 1, 2, 5, 6, 3600000, 3600001, U64_MAX, U64_MAX]
    for sample in samples:
        plugin.record(metric, sample)
    counted.flush()
    (found,) = collect(environment)
    expected = [sum(sample <= bound for sample in samples) for bound in BUCKETS]
    assert found == Metric("m", HISTOGRAM, buckets=(*expected, len(samples)), sum=sum(samples))
    assert found.count == 10


def test_a_metric_is_collected_before_it_counts(
    environment: Environment, plugin: PluginMetrics, counted: WorkerMetrics
) -> None:
    for kind in MetricKind:
        defined(plugin, kind, b"m%d" % kind)
    assert collect(environment) == []
    counted.flush()
    zeros = (0,) * (len(BUCKETS) + 1)
    assert collect(environment) == [Metric("m0", COUNTER), Metric("m1", GAUGE), Metric("m2", HISTOGRAM, buckets=zeros)]


def test_workers_are_summed(environment: Environment, worker: Worker, other: Worker) -> None:
    for number, member in enumerate((worker, other), 1):
        counted = WorkerMetrics(environment, member)
        plugin = PluginMetrics(counted)
        plugin.increment(defined(plugin, COUNTER, b"c"), number)
        plugin.increment(defined(plugin, GAUGE, b"g"), -number)
        plugin.record(defined(plugin, HISTOGRAM, b"h"), number)
        counted.flush()
        counted.flush()
    counter, gauge, histogram = collect(environment)
    assert (counter.value, gauge.value) == (3, -3)
    assert (histogram.count, histogram.sum, histogram.buckets[:3]) == (2, 3, (0, 1, 2))


def test_a_counter_reads_the_hosts_total_and_a_gauge_its_own_worker(
    environment: Environment, plugin: PluginMetrics, counted: WorkerMetrics, other: Worker
) -> None:
    theirs = WorkerMetrics(environment, other)
    elsewhere = PluginMetrics(theirs)
    counter, gauge = defined(plugin, COUNTER), defined(plugin, GAUGE)
    elsewhere.increment(defined(elsewhere, COUNTER), 40)
    elsewhere.record(defined(elsewhere, GAUGE), 40)
    plugin.increment(counter, 2)
    plugin.record(gauge, 2)
    assert (value(plugin, counter), value(plugin, gauge)) == (2, 2)
    theirs.flush()
    counted.flush()
    assert (value(plugin, counter), value(plugin, gauge)) == (42, 2)


def test_a_dead_workers_counts_stay_and_its_gauges_go(environment: Environment, worker: Worker, other: Worker) -> None:
    for member in (worker, other):
        counted = WorkerMetrics(environment, member)
        plugin = PluginMetrics(counted)
        plugin.increment(defined(plugin, COUNTER, b"c"), 5)
        plugin.record(defined(plugin, GAUGE, b"g"), 5)
        plugin.record(defined(plugin, HISTOGRAM, b"h"), 5)
        counted.flush()
        plugin.increment(defined(plugin, COUNTER, b"c"), 1000)
    other.close()
    assert bury(environment, worker) == 1
    counter, gauge, histogram = collect(environment)
    assert (counter.value, gauge.value, histogram.count, histogram.sum) == (10, 5, 2, 10)


def test_a_successor_counts_on(environment: Environment, worker: Worker) -> None:
    for total in (1, 2, 3):
        member = Worker(environment)
        counted = WorkerMetrics(environment, member)
        plugin = PluginMetrics(counted)
        metric = defined(plugin, COUNTER)
        plugin.increment(metric, 1)
        counted.flush()
        assert value(plugin, metric) == total
        member.close()
        bury(environment, worker)
        assert collect(environment)[0].value == total


@pytest.mark.parametrize("count", [FLUSH_BATCH - 1, FLUSH_BATCH, FLUSH_BATCH + 1])
def test_more_stats_than_one_transaction_takes(environment: Environment, worker: Worker, other: Worker, count: int) -> None:
    assert census.FOLD_BATCH == FLUSH_BATCH
    counted = WorkerMetrics(environment, other)
    plugin = PluginMetrics(counted)
    for number in range(count):
        plugin.increment(defined(plugin, COUNTER, b"%d" % number), number + 1)
    assert counted.statistics()["unflushed"] == count
    assert counted.flush() is Status.OK
    assert counted.statistics()["unflushed"] == 0
    before = collect(environment)
    other.close()
    bury(environment, worker)
    assert collect(environment) == before
    assert sum(metric.value for metric in before) == count * (count + 1) // 2


def test_what_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "small", map_size=1 << 18)
    worker = Worker(environment)
    counted = WorkerMetrics(environment, worker)
    plugin = PluginMetrics(counted)
    for number in range(400):
        plugin.increment(defined(plugin, COUNTER, b"%d" % number + b"n" * 1000), 1)
    assert counted.flush() is Status.INTERNAL_FAILURE
    assert counted.statistics()["unflushed"] >= 400 - FLUSH_BATCH
    assert environment.statistics()["failures"] == 1
    worker.close()
    environment.close()


def test_names_that_are_no_text_are_collected(environment: Environment, plugin: PluginMetrics, counted: WorkerMetrics) -> None:
    plugin.increment(defined(plugin, COUNTER, b"a\xff\0"), 1)
    counted.flush()
    assert collect(environment) == [Metric("a\ufffd\0", COUNTER, 1)]


def test_what_they_show(plugin: PluginMetrics, counted: WorkerMetrics) -> None:
    defined(plugin, COUNTER)
    assert counted.statistics() == {"stats": 1, "stats_limit": metrics.STATS_PER_WORKER, "unflushed": 1}
    assert "stats=1 unflushed=1" in repr(counted)
    assert repr(plugin) == "<PluginMetrics stats=1>"


KINDS = st.sampled_from(list(MetricKind))
NAMES = st.sampled_from([b"a", b"b"])
SIDES = st.integers(0, 1)


class AgainstSums(RuleBasedStateMachine):
    """Two workers that count, flush, and die: the sums are those of what was flushed, at every moment."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.environment = Environment(Path(self.directory.name) / "state", map_size=1 << 22)
        self.workers = [self.join(), self.join()]
        # By worker's number (0: the dead) and stat: what it has counted, and what of it is flushed.
        self.counted: dict[tuple[int, MetricKind, bytes], list[int]] = {}
        self.flushed: dict[tuple[int, MetricKind, bytes], list[int]] = {}

    def join(self) -> tuple[Worker, WorkerMetrics, PluginMetrics]:
        worker = Worker(self.environment)
        counted = WorkerMetrics(self.environment, worker)
        return worker, counted, PluginMetrics(counted)

    def teardown(self) -> None:
        for worker, _, _ in self.workers:
            worker.close()
        self.environment.close()
        self.directory.cleanup()

    @rule(side=SIDES, kind=KINDS, name=NAMES, number=st.integers(-3, U64_MAX))
    def record(self, side: int, kind: MetricKind, name: bytes, number: int) -> None:
        worker, _, plugin = self.workers[side]
        plugin.record(defined(plugin, kind, name), number)
        own = self.counted.setdefault((worker.number, kind, name), [])
        if kind is GAUGE:
            own.clear()
        own.append(number & U64_MAX)

    @rule(side=SIDES, name=NAMES, delta=st.integers(-3, 3))
    def increment(self, side: int, name: bytes, delta: int) -> None:
        worker, _, plugin = self.workers[side]
        plugin.increment(defined(plugin, GAUGE, name), delta)
        self.counted.setdefault((worker.number, GAUGE, name), []).append(delta)

    @rule(side=SIDES)
    def flush(self, side: int) -> None:
        worker, counted, _ = self.workers[side]
        counted.flush()
        self.flushed |= {key: list(own) for key, own in self.counted.items() if key[0] == worker.number}

    @rule(side=SIDES)
    def die(self, side: int) -> None:
        dead, _, _ = self.workers[side]
        dead.close()
        self.workers[side] = self.join()
        bury(self.environment, self.workers[side][0])
        for key in [key for key in self.flushed if key[0] == dead.number]:
            own = self.flushed.pop(key)
            if key[1] is not GAUGE:
                self.flushed.setdefault((0, *key[1:]), []).extend(own)

    @invariant()
    def sums_agree(self) -> None:
        sums: dict[tuple[str, MetricKind], list[int]] = {}
        for (_, kind, name), own in self.flushed.items():
            sums.setdefault((name.decode(), kind), []).extend(own)
        found = {(metric.name, metric.kind): metric for metric in collect(self.environment)}
        assert found.keys() == sums.keys()
        for key, numbers in sums.items():
            metric, total = found[key], sum(numbers)
            if metric.kind is HISTOGRAM:
                assert (metric.count, metric.sum) == (len(numbers), total)
            else:
                assert metric.value & U64_MAX == total & U64_MAX


TestAgainstSums = AgainstSums.TestCase
TestAgainstSums.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
