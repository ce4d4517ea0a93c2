"""What plugins share behaves alike in the gateway (LMDB) and in the library (memory): one suite over both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from data_plane.plugins.sharing import HostSharing, PluginSharing
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.services import SharedServices
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.testing.memory import MemoryServices, Shared
from shared.proxy_wasm.vm import PluginContext

COUNTER, GAUGE, HISTOGRAM = range(3)
U64 = 1 << 64


class Plugins:
    """Services by plugin name, and contexts that are nothing but themselves."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._state = HostState(folder / "state") if kind == "gateway" else None
        self._shared = Shared()
        self.context = cast(PluginContext, SimpleNamespace())

    def __call__(self, name: str) -> SharedServices:
        if self._state is None:
            return MemoryServices(self._shared, name)
        sharing = SimpleNamespace(state=self._state, token=lambda context: 1)
        return PluginSharing(cast(HostSharing, sharing), name, 1 << 20)

    def close(self) -> None:
        if self._state is not None:
            self._state.close()


@pytest.fixture(params=["gateway", "library"])
def plugins(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plugins]:
    made = Plugins(request.param, tmp_path)
    yield made
    made.close()


def test_data_is_compared_and_set(plugins: Plugins) -> None:
    one, other = plugins("one"), plugins("other")
    assert one.get_data(b"k")[0] is Status.NOT_FOUND
    assert one.set_data(b"k", b"a", 77) is Status.OK, "there is nothing to compare with"
    status, value, cas = one.get_data(b"k")
    assert (status, value, cas > 0) == (Status.OK, b"a", True)
    assert one.set_data(b"k", b"b", cas + 1) is Status.CAS_MISMATCH
    assert one.set_data(b"k", b"c", cas) is Status.OK
    assert one.set_data(b"k", b"d", cas) is Status.CAS_MISMATCH, "every set makes a new number"
    assert one.set_data(b"k", b"", 0) is Status.OK
    assert one.get_data(b"k")[:2] == (Status.OK, b"")
    assert plugins("one").get_data(b"k")[:2] == (Status.OK, b"")
    assert other.get_data(b"k")[0] is Status.NOT_FOUND


def test_queues_are_first_in_first_out(plugins: Plugins) -> None:
    one, other = plugins("one"), plugins("other")
    assert one.resolve_queue(b"", b"jobs")[0] is Status.NOT_FOUND
    assert (one.enqueue(99, b"x"), one.dequeue(99)[0]) == (Status.NOT_FOUND, Status.NOT_FOUND)
    status, queue = one.register_queue(plugins.context, b"jobs")
    assert (status, queue > 0) == (Status.OK, True)
    assert one.dequeue(queue) == (Status.EMPTY, b"")
    assert [one.enqueue(queue, item) for item in (b"a", b"", b"c")] == [Status.OK] * 3
    assert one.register_queue(plugins.context, b"jobs") == (Status.OK, queue), "it keeps its number and its items"
    assert other.resolve_queue(b"one", b"jobs") == (Status.OK, queue)
    assert other.resolve_queue(b"", b"jobs")[0] is Status.NOT_FOUND
    assert one.resolve_queue(b"", b"jobs") == (Status.OK, queue)
    assert [other.dequeue(queue) for _ in range(4)] == [
        (Status.OK, b"a"),
        (Status.OK, b""),
        (Status.OK, b"c"),
        (Status.EMPTY, b""),
    ]
    assert other.register_queue(plugins.context, b"jobs")[1] != queue


def test_metrics_count_by_their_kind(plugins: Plugins) -> None:
    one = plugins("one")
    assert one.define_metric(3, b"x")[0] is Status.BAD_ARGUMENT
    (_, counter), (_, gauge), (_, histogram) = (one.define_metric(kind, b"m") for kind in (COUNTER, GAUGE, HISTOGRAM))
    assert len({counter, gauge, histogram}) == 3
    assert one.define_metric(COUNTER, b"m") == (Status.OK, counter)
    assert one.increment_metric(counter, 2) is Status.OK
    assert [one.increment_metric(counter, delta) for delta in (0, -1)] == [Status.BAD_ARGUMENT] * 2
    assert one.record_metric(counter, 3) is Status.OK
    assert one.get_metric(counter) == (Status.OK, 5)
    assert (one.record_metric(gauge, 7), one.increment_metric(gauge, -10)) == (Status.OK, Status.OK)
    assert one.get_metric(gauge) == (Status.OK, U64 - 3)
    assert one.record_metric(gauge, U64 - 1) is Status.OK
    assert one.increment_metric(gauge, 1) is Status.OK
    assert one.get_metric(gauge) == (Status.OK, 0)
    assert one.record_metric(histogram, 1) is Status.OK
    assert one.increment_metric(histogram, 1) is Status.BAD_ARGUMENT
    assert one.get_metric(histogram)[0] is Status.BAD_ARGUMENT
    unknown = [one.increment_metric(1, 1), one.record_metric(1, 1), one.get_metric(1)[0]]
    assert unknown == [Status.NOT_FOUND] * 3


def test_a_metric_is_one_for_all_but_its_number_is_each_plugins_own(plugins: Plugins) -> None:
    one, other = plugins("one"), plugins("other")
    _, mine = one.define_metric(COUNTER, b"m")
    assert one.increment_metric(mine, 1) is Status.OK
    assert other.increment_metric(mine, 1) is Status.NOT_FOUND
    _, theirs = other.define_metric(COUNTER, b"m")
    assert other.get_metric(theirs) == (Status.OK, 1)
