"""Shared data: every status of proxy_get_shared_data and proxy_set_shared_data, and an oracle of plain dictionaries."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U64, VM_BYTES, name_key
from shared.proxy_wasm.state.shared_data import BYTES_PER_VM, CAS_LIMIT, DROP_BATCH, ENTRY_OVERHEAD, SharedData


@pytest.fixture
def data(environment: Environment) -> SharedData:
    return SharedData(environment)


def cas_of(data: SharedData, key: bytes = b"k", vm_id: str = "vm") -> int:
    found = data.get(vm_id, key)
    assert found is not None
    return found[1]


def test_an_absent_key_is_not_found(data: SharedData) -> None:
    assert data.get("vm", b"k") is None


@pytest.mark.parametrize("cas", [0, 1, 77, CAS_LIMIT - 1])
def test_an_absent_key_accepts_any_cas(data: SharedData, cas: int) -> None:
    assert data.set("vm", b"k", b"v", cas) is Status.OK
    assert data.get("vm", b"k") == (b"v", 1)


def test_cas_0_is_unconditional(data: SharedData) -> None:
    for value in (b"v1", b"v2", b"v3"):
        assert data.set("vm", b"k", value, 0) is Status.OK
    assert data.get("vm", b"k") == (b"v3", 3)


def test_the_right_cas_succeeds_once(data: SharedData) -> None:
    data.set("vm", b"k", b"v1")
    cas = cas_of(data)
    assert data.set("vm", b"k", b"v2", cas) is Status.OK
    assert data.set("vm", b"k", b"v3", cas) is Status.CAS_MISMATCH
    assert data.get("vm", b"k") == (b"v2", cas_of(data))
    assert cas_of(data) != cas


def test_a_cas_of_another_entry_is_a_mismatch(data: SharedData) -> None:
    data.set("vm", b"a", b"1")
    data.set("vm", b"b", b"2")
    assert data.set("vm", b"a", b"3", cas_of(data, b"b")) is Status.CAS_MISMATCH


def test_a_refused_set_uses_up_no_cas(data: SharedData) -> None:
    data.set("vm", b"k", b"1")
    data.set("vm", b"k", b"2", 99)
    data.set("vm", b"k", b"3")
    assert cas_of(data) == 2


def test_after_the_largest_cas_comes_1(data: SharedData, environment: Environment) -> None:
    with environment.write() as txn:
        txn.put(b"cas", U64.pack(CAS_LIMIT - 2), db=environment.tables.counters)
    data.set("vm", b"k", b"last")
    assert cas_of(data) == CAS_LIMIT - 1
    data.set("vm", b"k", b"first again")
    assert cas_of(data) == 1


@pytest.mark.parametrize("key", [b"", b"\0", b"k" * 255, b"k" * 256, b"k" * 100_000, bytes(range(256))])
@pytest.mark.parametrize("value", [b"", b"\0", b"v" * 100_000])
def test_keys_and_values_are_any_bytes_of_any_length(data: SharedData, key: bytes, value: bytes) -> None:
    assert data.set("vm", key, value) is Status.OK
    assert data.get("vm", key) == (value, 1)
    assert data.get("vm", key + b"!") is None


def test_a_long_key_is_not_taken_for_its_digest(data: SharedData) -> None:
    keys = [b"k" * 300, b"k" * 301, b"#" + b"k" * 300]
    for number, key in enumerate(keys):
        data.set("vm", key, b"%d" % number)
    assert [data.get("vm", key) for key in keys] == [(b"0", 1), (b"1", 2), (b"2", 3)]


@pytest.mark.parametrize("vm_id", ["", "vm", "vm2", "v", "ünïcödé", "\udcff", "x" * 10_000])
def test_vm_ids_do_not_see_each_other(data: SharedData, vm_id: str) -> None:
    data.set("another", b"k", b"theirs")
    assert data.get(vm_id, b"k") is None
    data.set(vm_id, b"k", b"ours")
    assert data.get("another", b"k") == (b"theirs", 1)


def cost(key: bytes, value: bytes) -> int:
    return VM_BYTES + len(name_key(key)) + 4 + len(value) + ENTRY_OVERHEAD


def test_what_an_entry_costs_is_bounded(environment: Environment) -> None:
    data = SharedData(environment, bytes_per_vm=3 * cost(b"a", b"0123456789"))
    for key in (b"a", b"b", b"c"):
        assert data.set("vm", key, b"0123456789") is Status.OK
    assert data.set("vm", b"d", b"") is Status.INTERNAL_FAILURE
    assert data.set("vm", b"a", b"0123456789+") is Status.INTERNAL_FAILURE
    assert data.get("vm", b"a") == (b"0123456789", 1)
    assert data.set("another", b"d", b"") is Status.OK
    assert data.set("vm", b"a", b"") is Status.OK
    assert data.set("vm", b"b", b"0123456789 and ten") is Status.OK
    assert data.set("vm", b"c", b"0123456789 and ten") is Status.INTERNAL_FAILURE


def test_a_value_beyond_the_limit_is_refused(data: SharedData) -> None:
    assert data.set("vm", b"k", bytes(BYTES_PER_VM)) is Status.INTERNAL_FAILURE
    assert data.get("vm", b"k") is None


@pytest.mark.parametrize("count", [1, DROP_BATCH - 1, DROP_BATCH, DROP_BATCH + 1, 2 * DROP_BATCH])
def test_drop_forgets_one_vm_id(data: SharedData, count: int) -> None:
    for vm_id in ("vm", "another"):
        for number in range(count):
            data.set(vm_id, b"%04d" % number, b"v")
    assert data.drop("vm") is Status.OK
    assert data.get("vm", b"0000") is None
    assert data.get("another", b"0000") == (b"v", count + 1)
    size = count * cost(b"0000", b"v")
    assert data.statistics() == {"vm_ids": 1, "entries": count, "bytes": size, "bytes_per_vm_limit": BYTES_PER_VM}
    assert f"vm_ids=1 entries={count}" in repr(data)


def test_drop_of_nothing_is_fine(data: SharedData) -> None:
    assert data.drop("never seen") is Status.OK


@pytest.mark.parametrize("size", [0, 100, 3000, 50_000])
def test_a_full_memory_refuses_growth_and_nothing_else(tmp_path: Path, size: int) -> None:
    environment = Environment(tmp_path / "small", map_size=1 << 20)
    data = SharedData(environment, bytes_per_vm=1 << 40)
    stored = 0
    while data.set(f"vm{stored % 3}", b"%d" % stored, bytes(size)) is Status.OK:
        stored += 1
    assert stored > 5
    assert data.statistics()["entries"] == stored
    statistics = environment.statistics()
    assert statistics["refusals"] == 1
    assert statistics["failures"] == 0
    assert [data.set("vm0", b"0", bytes(size)) for _ in range(100)] == [Status.OK] * 100
    assert [data.drop(f"vm{number}") for number in range(3)] == [Status.OK] * 3
    assert [data.set("vm", b"%d" % number, bytes(size)) for number in range(stored // 2)] == [Status.OK] * (stored // 2)
    environment.close()


def test_what_lmdb_refuses_is_an_internal_failure_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment(tmp_path / "small", map_size=1 << 20)
    data = SharedData(environment)
    monkeypatch.setattr(environment.room, "limit", 1 << 40)
    assert data.set("vm", b"k", bytes(2 << 20)) is Status.INTERNAL_FAILURE
    assert data.get("vm", b"k") is None
    statistics = environment.statistics()
    assert statistics["failures"] == 1
    assert "MDB_MAP_FULL" in str(statistics["last_failure"])
    assert data.set("vm", b"k", b"v") is Status.OK
    assert data.statistics()["entries"] == 1
    environment.close()


VM_IDS = st.sampled_from(["", "a", "b"])
KEYS = st.sampled_from([b"", b"k", b"kk", b"long" * 100])
LIMIT = 2000


class AgainstDictionaries(RuleBasedStateMachine):
    """The same calls on the state and on a dictionary answer the same, whatever their order."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.environment = Environment(Path(self.directory.name) / "state", map_size=1 << 22)
        self.data = SharedData(self.environment, bytes_per_vm=LIMIT)
        self.oracle: dict[tuple[str, bytes], tuple[bytes, int]] = {}
        self.last_cas = 0

    def teardown(self) -> None:
        self.environment.close()
        self.directory.cleanup()

    def size(self, vm_id: str) -> int:
        return sum(cost(key, value) for (vm, key), (value, _) in self.oracle.items() if vm == vm_id)

    @rule(vm_id=VM_IDS, key=KEYS, value=st.binary(max_size=1200), cas=st.integers(0, 3))
    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> None:
        held = self.oracle.get((vm_id, key))
        # 0 and 1: as they are; 2 and 3: the entry's own and the one before.
        cas = cas if cas < 2 or held is None else held[1] + 2 - cas
        self._expect(vm_id, key, value, cas, self.data.set(vm_id, key, value, cas))

    def _expect(self, vm_id: str, key: bytes, value: bytes, cas: int, status: Status) -> None:
        held = self.oracle.get((vm_id, key))
        if held is not None and cas not in (0, held[1]):
            assert status is Status.CAS_MISMATCH
            return
        growth = cost(key, value) - (0 if held is None else cost(key, held[0]))
        if growth > 0 and self.size(vm_id) + growth > LIMIT:
            assert status is Status.INTERNAL_FAILURE
            return
        assert status is Status.OK
        self.last_cas += 1
        self.oracle[vm_id, key] = (value, self.last_cas)

    @rule(vm_id=VM_IDS, key=KEYS)
    def get(self, vm_id: str, key: bytes) -> None:
        assert self.data.get(vm_id, key) == self.oracle.get((vm_id, key))

    @rule(vm_id=VM_IDS)
    def drop(self, vm_id: str) -> None:
        self.data.drop(vm_id)
        self.oracle = {name: entry for name, entry in self.oracle.items() if name[0] != vm_id}

    @invariant()
    def counts_agree(self) -> None:
        statistics = self.data.statistics()
        assert statistics["entries"] == len(self.oracle)
        assert statistics["bytes"] == sum(self.size(vm_id) for vm_id in ("", "a", "b"))


TestAgainstDictionaries = AgainstDictionaries.TestCase
TestAgainstDictionaries.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
