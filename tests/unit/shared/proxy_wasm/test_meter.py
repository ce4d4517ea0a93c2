"""The CPU time of callbacks, by a clock that the test turns: each call of a stand-in VM takes as long as the test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from shared.proxy_wasm import meter
from shared.proxy_wasm.failures import StreamFailed
from shared.proxy_wasm.meter import SAMPLED, CpuMeter
from shared.proxy_wasm.vm import PluginVM
from shared.proxy_wasm.watchdog import ENTRIES, Watchdog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Vm:
    """As much of a PluginVM as is measured."""

    def __init__(self, clock: Clock, watchdog: Watchdog) -> None:
        self.takes = 0.001
        self.clock = clock
        self.watchdog = watchdog
        self.request_headers = self.response_headers = self.body = self.finish = self._of_a_stream
        self.root_tick = self._of_a_root
        self.root_settle = lambda _: 0
        self.calls = SimpleNamespace(root_call=self._of_a_root)

    def _of_a_stream(self, data: bytes, stream: int, second: int, flags: int) -> int:
        self._run()
        return stream

    def _of_a_root(self, root: int) -> int:
        self._run()
        return root

    def _run(self) -> None:
        self.watchdog.words[ENTRIES] += 2
        self.clock.now += self.takes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "thread_time", clock)
    return clock


@pytest.fixture
def watchdog() -> Watchdog:
    return Watchdog(lambda wire: None)


@pytest.fixture
def vm(clock: Clock, watchdog: Watchdog) -> Vm:
    return Vm(clock, watchdog)


def measured(vm: Vm, watchdog: Watchdog, limit: float | None = None) -> CpuMeter:
    return CpuMeter(cast(PluginVM, vm), watchdog, limit)


def test_few_callbacks_are_measured_exactly(vm: Vm, watchdog: Watchdog) -> None:
    meter_ = measured(vm, watchdog)
    for takes in (0.001, 0.004, 0.02):
        vm.takes = takes
        assert vm.request_headers(b"", 7, 1, 0) == 7
        assert vm.root_tick(3) == 3
        assert vm.calls.root_call(3) == 3
    meter_.look()
    assert meter_.seconds == pytest.approx(0.075)
    meter_.look()
    assert meter_.seconds == pytest.approx(0.075)


def test_of_many_the_first_stand_for_all(vm: Vm, watchdog: Watchdog) -> None:
    meter_ = measured(vm, watchdog)
    plain = vm._of_a_stream
    for look in range(1, 4):
        for _ in range(10 * SAMPLED):
            vm.body(b"", 1, 0, 0)
        assert vm.body == plain, "what is not sampled costs nothing more"
        meter_.look()
        assert vm.body != plain
        assert meter_.seconds == pytest.approx(look * 10 * SAMPLED * 0.001)


def test_a_burst_does_not_stand_for_the_silence_after_it(vm: Vm, watchdog: Watchdog) -> None:
    meter_ = measured(vm, watchdog)
    for _ in range(SAMPLED + 1):
        vm.finish(b"", 1, 0, 0)
    meter_.look()
    assert meter_.seconds == pytest.approx((SAMPLED + 1) * 0.001)


def test_the_calls_of_other_vms_are_theirs(vm: Vm, watchdog: Watchdog, clock: Clock) -> None:
    meter_, other = measured(vm, watchdog), Vm(clock, watchdog)
    for _ in range(10 * SAMPLED):
        vm.finish(b"", 1, 0, 0)
        for _ in range(3):
            other.finish(b"", 1, 0, 0)
    meter_.look()
    assert meter_.seconds == pytest.approx(10 * SAMPLED * 0.001, rel=0.02)


def test_a_stream_that_used_its_time_up_is_refused_until_its_end(vm: Vm, watchdog: Watchdog) -> None:
    meter_ = measured(vm, watchdog, 0.003)
    for _ in range(3):
        vm.body(b"", 1, 0, 0)
    with pytest.raises(StreamFailed, match="its callbacks took 3 ms of CPU time, 3 are allowed"):
        vm.body(b"", 1, 0, 0)
    vm.body(b"", 2, 0, 0)
    vm.request_headers(b"", 1, 0, 2)
    vm.finish(b"", 1, 0, 0)
    vm.body(b"", 1, 0, 0)
    assert meter_.seconds == pytest.approx(0.007)


def test_time_of_a_failed_call_counts_too(vm: Vm, watchdog: Watchdog) -> None:
    def fail(root: int) -> int:
        vm._run()
        raise RuntimeError

    vm.root_tick = fail
    meter_ = measured(vm, watchdog)
    with pytest.raises(RuntimeError):
        vm.root_tick(1)
    assert meter_.seconds == pytest.approx(0.001)
