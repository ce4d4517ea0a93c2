"""Shared queues: every status of proxy_*_shared_queue, who is told of an item, and an oracle of plain lists."""

from __future__ import annotations

import select
import tempfile
from collections import Counter, deque
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.census import bury
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.shared_queue import DROP_BATCH, QUEUES_PER_VM, READY_BATCH, SharedQueues
from shared.proxy_wasm.state.workers import Worker


@pytest.fixture
def queues(environment: Environment, worker: Worker) -> SharedQueues:
    return SharedQueues(environment, worker)


@pytest.fixture
def others(environment: Environment, other: Worker) -> SharedQueues:
    return SharedQueues(environment, other)


def registered(queues: SharedQueues, owner: int = 1, name: bytes = b"q") -> int:
    status, queue = queues.register("vm", name, owner)
    assert status is Status.OK
    return queue


def awake(queues: SharedQueues) -> bool:
    return bool(select.select([queues.ready_fd()], [], [], 0)[0])


def drained(queues: SharedQueues, queue: int) -> list[bytes]:
    items: list[bytes] = []
    while True:
        status, data = queues.dequeue(queue)
        if status is not Status.OK:
            assert (status, data) == (Status.EMPTY, b"")
            return items
        items.append(data)


def test_an_unknown_queue_is_not_found(queues: SharedQueues) -> None:
    for queue in (0, 1, 2**32 - 1):
        assert queues.enqueue(queue, b"x") is Status.NOT_FOUND
        assert queues.dequeue(queue) == (Status.NOT_FOUND, b"")
    assert queues.resolve("vm", b"q") is None


def test_ids_count_from_1_and_a_name_keeps_its_own(queues: SharedQueues, others: SharedQueues) -> None:
    assert queues.register("vm", b"q", 1) == (Status.OK, 1)
    assert queues.register("vm", b"r", 1) == (Status.OK, 2)
    assert queues.register("vm2", b"q", 1) == (Status.OK, 3)
    assert others.register("vm", b"q", 1) == (Status.OK, 1)
    assert [others.resolve(vm, name) for vm, name in (("vm", b"q"), ("vm", b"r"), ("vm2", b"q"))] == [1, 2, 3]
    assert others.resolve("vm2", b"r") is None


@pytest.mark.parametrize("name", [b"", b"\0", b"n" * 256, b"n" * 100_000])
def test_names_are_any_bytes(queues: SharedQueues, name: bytes) -> None:
    queue = registered(queues, name=name)
    assert queues.resolve("vm", name) == queue
    assert queues.resolve("vm", name + b"n") is None


def test_first_in_first_out_across_workers(queues: SharedQueues, others: SharedQueues) -> None:
    queue = registered(queues)
    assert queues.dequeue(queue) == (Status.EMPTY, b"")
    items = [b"", b"one", b"\0", b"x" * 100_000]
    for position, item in enumerate(items):
        assert (queues, others)[position % 2].enqueue(queue, item) is Status.OK
    assert drained(others, queue) == items
    assert queues.dequeue(queue) == (Status.EMPTY, b"")


def test_registering_again_keeps_the_items(queues: SharedQueues, others: SharedQueues) -> None:
    queue = registered(queues)
    queues.enqueue(queue, b"kept")
    assert registered(others) == queue
    assert others.dequeue(queue) == (Status.OK, b"kept")


def test_items_are_bounded(environment: Environment, worker: Worker) -> None:
    queues = SharedQueues(environment, worker, queue_items=2, queue_bytes=100)
    queue, another = registered(queues), registered(queues, name=b"another")
    assert [queues.enqueue(queue, b"x") for _ in range(3)] == [Status.OK, Status.OK, Status.INTERNAL_FAILURE]
    assert queues.enqueue(another, b"x") is Status.OK
    queues.dequeue(queue)
    assert queues.enqueue(queue, b"y") is Status.OK
    assert drained(queues, queue) == [b"x", b"y"]


def test_bytes_are_bounded(environment: Environment, worker: Worker) -> None:
    queues = SharedQueues(environment, worker, queue_bytes=100)
    queue = registered(queues)
    assert queues.enqueue(queue, bytes(101)) is Status.INTERNAL_FAILURE
    assert queues.enqueue(queue, bytes(60)) is Status.OK
    assert queues.enqueue(queue, bytes(41)) is Status.INTERNAL_FAILURE
    assert queues.enqueue(queue, bytes(40)) is Status.OK
    queues.dequeue(queue)
    assert queues.enqueue(queue, bytes(60)) is Status.OK


def test_a_refused_item_makes_no_event(environment: Environment, worker: Worker) -> None:
    queues = SharedQueues(environment, worker, queue_items=1)
    queue = registered(queues)
    queues.enqueue(queue, b"x")
    queues.enqueue(queue, b"refused")
    assert queues.take_ready() == [(1, queue)]


def test_queues_of_a_vm_id_are_bounded(queues: SharedQueues) -> None:
    for number in range(QUEUES_PER_VM):
        registered(queues, name=b"%d" % number)
    assert queues.register("vm", b"one more", 1) == (Status.INTERNAL_FAILURE, 0)
    assert queues.resolve("vm", b"one more") is None
    assert registered(queues, name=b"7") == 8
    assert queues.register("another", b"one more", 1)[0] is Status.OK


def test_a_full_memory_refuses_new_items_and_gives_old_ones(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "small", map_size=1 << 20)
    worker = Worker(environment)
    queues = SharedQueues(environment, worker)
    queue, stored = registered(queues), 0
    while queues.enqueue(queue, b"%05d" % stored) is Status.OK:
        stored += 1
    assert stored > 100
    assert queues.register("vm", b"another", 1) == (Status.INTERNAL_FAILURE, 0)
    assert registered(queues) == queue
    assert drained(queues, queue) == [b"%05d" % number for number in range(stored)]
    assert queues.enqueue(queue, b"again") is Status.OK
    worker.close()
    environment.close()


def test_each_item_makes_one_event_for_its_registrant(queues: SharedQueues, others: SharedQueues) -> None:
    q, r = registered(queues, 11, b"q"), registered(others, 12, b"r")
    assert not awake(queues)
    for queue in (q, r, q, q):
        others.enqueue(queue, b"x")
    assert awake(queues)
    assert awake(others)
    assert queues.take_ready() == [(11, q)] * 3
    assert others.take_ready() == [(12, r)]
    for side in (queues, others):
        assert not awake(side)
        assert side.take_ready() == []


def test_the_last_registrant_is_told(queues: SharedQueues, others: SharedQueues) -> None:
    queue, transcript = registered(queues, 1), []
    for side, owner in ((others, 1), (queues, 2), (queues, 1), (queues, 1)):
        queues.enqueue(queue, b"x")
        transcript.append((queues.take_ready(), others.take_ready()))
        registered(side, owner)
    assert transcript == [([(1, queue)], []), ([], [(1, queue)]), ([(2, queue)], []), ([(1, queue)], [])]


def test_an_event_stays_with_the_registrant_that_it_was_made_for(queues: SharedQueues, others: SharedQueues) -> None:
    queue = registered(queues)
    queues.enqueue(queue, b"x")
    registered(others)
    assert others.take_ready() == []
    assert queues.take_ready() == [(1, queue)]


def test_a_lost_wake_up_loses_no_event(queues: SharedQueues, worker: Worker) -> None:
    queue = registered(queues)
    queues.enqueue(queue, b"x")
    worker.drain()
    assert not awake(queues)
    assert queues.take_ready() == [(1, queue)]


def test_many_events_come_in_batches_and_no_queue_waits_for_another(queues: SharedQueues) -> None:
    busy, quiet = registered(queues, 1, b"busy"), registered(queues, 2, b"quiet")
    for _ in range(2 * READY_BATCH):
        queues.enqueue(busy, b"x")
    queues.enqueue(quiet, b"x")
    first = queues.take_ready()
    assert Counter(first) == {(1, busy): READY_BATCH // 2, (2, quiet): 1}
    assert awake(queues)
    events = Counter(first)
    while batch := queues.take_ready():
        assert len(batch) <= READY_BATCH
        events.update(batch)
    assert events == {(1, busy): 2 * READY_BATCH, (2, quiet): 1}
    assert not awake(queues)


def test_a_released_registrant_gives_its_events_to_the_one_before(queues: SharedQueues, others: SharedQueues) -> None:
    queue = registered(others, 1)
    registered(queues, 2)
    for _ in range(3):
        queues.enqueue(queue, b"x")
    assert queues.release(2) is Status.OK
    assert awake(others)
    assert others.take_ready() == [(1, queue)] * 3
    assert queues.take_ready() == []
    queues.enqueue(queue, b"x")
    assert others.take_ready() == [(1, queue)]


def test_without_a_registrant_events_wait_for_the_next(queues: SharedQueues, others: SharedQueues) -> None:
    queue = registered(queues, 1)
    queues.enqueue(queue, b"a")
    queues.release(1)
    queues.enqueue(queue, b"b")
    assert queues.take_ready() == []
    assert not awake(queues)
    registered(others, 9)
    assert awake(others)
    assert others.take_ready() == [(9, queue)] * 2


def test_a_newcomer_is_told_only_of_what_is_left(queues: SharedQueues, others: SharedQueues) -> None:
    queue = registered(queues, 1)
    queues.release(1)
    for item in (b"a", b"b", b"c"):
        queues.enqueue(queue, item)
    queues.dequeue(queue)
    registered(others, 9)
    assert others.take_ready() == [(9, queue)] * 2


def test_releasing_one_who_is_not_told_changes_nothing(queues: SharedQueues, others: SharedQueues) -> None:
    queue = registered(queues, 1)
    registered(others, 2)
    queues.enqueue(queue, b"x")
    queues.release(1)
    queues.release(77)
    assert others.take_ready() == [(2, queue)]


def test_a_dead_workers_events_go_to_the_registrant_before_it(
    environment: Environment, queues: SharedQueues, worker: Worker, others: SharedQueues, other: Worker
) -> None:
    queue = registered(queues, 1)
    registered(others, 2)
    for item in (b"a", b"b"):
        queues.enqueue(queue, item)
    other.close()
    assert bury(environment, worker) == 1
    assert queues.take_ready() == [(1, queue)] * 2
    assert bury(environment, worker) == 0


def test_what_a_worker_took_before_it_died_is_told_again(
    environment: Environment, queues: SharedQueues, worker: Worker, others: SharedQueues, other: Worker
) -> None:
    queue = registered(queues, 1)
    registered(others, 2)
    for item in (b"a", b"b", b"c"):
        queues.enqueue(queue, item)
    assert len(others.take_ready()) == 3
    others.dequeue(queue)
    other.close()
    bury(environment, worker)
    assert queues.take_ready() == [(1, queue)] * 2


def test_a_worker_that_finds_a_registrant_dead_tells_the_next(
    environment: Environment, queues: SharedQueues, others: SharedQueues, other: Worker
) -> None:
    queue = registered(queues, 1)
    registered(others, 2)
    other.close()
    finder = Worker(environment)
    found = SharedQueues(environment, finder)
    assert found.enqueue(queue, b"x") is Status.OK
    assert not awake(queues)
    assert awake(found)
    assert found.take_ready() == []
    assert not awake(found)
    assert awake(queues)
    assert queues.take_ready() == [(1, queue)]
    finder.close()


def test_a_dead_workers_events_wait_when_nobody_is_left(
    environment: Environment, queues: SharedQueues, others: SharedQueues, other: Worker
) -> None:
    queue = registered(others, 2)
    other.close()
    queues.enqueue(queue, b"x")
    queues.enqueue(queue, b"y")
    assert queues.take_ready() == []
    assert queues.statistics()["events"] == 2
    assert registered(queues, 5) == queue
    assert queues.take_ready() == [(5, queue)] * 2


def test_a_newcomer_is_told_of_what_a_worker_left_that_is_buried_later(
    queues: SharedQueues, others: SharedQueues, other: Worker
) -> None:
    queue = registered(others, 2)
    other.close()
    queues.enqueue(queue, b"x")
    registered(queues, 5)
    assert queues.take_ready() == [(5, queue)]


@pytest.mark.parametrize("count", [0, 1, DROP_BATCH - 1, DROP_BATCH, DROP_BATCH + 1, 2 * DROP_BATCH])
def test_drop_deletes_the_queues_of_one_vm_id(queues: SharedQueues, others: SharedQueues, count: int) -> None:
    queue, empty = registered(queues), registered(queues, name=b"empty")
    _, kept = others.register("another", b"q", 2)
    for target in (queue, kept):
        for _ in range(count):
            queues.enqueue(target, b"x")
    assert queues.drop("vm") is Status.OK
    assert queues.resolve("vm", b"q") is None
    assert queues.dequeue(queue) == (Status.NOT_FOUND, b"")
    assert queues.enqueue(empty, b"x") is Status.NOT_FOUND
    assert queues.take_ready() == []
    statistics = others.statistics()
    assert (statistics["queues"], statistics["items"], statistics["events"]) == (1, count, count)
    assert registered(queues) == 4
    assert queues.dequeue(4) == (Status.EMPTY, b"")


def test_what_it_shows(queues: SharedQueues) -> None:
    queue = registered(queues)
    queues.enqueue(queue, b"four")
    statistics = queues.statistics()
    assert (statistics["queues"], statistics["items"], statistics["bytes"], statistics["events"]) == (1, 1, 4, 1)
    assert "queues=1 items=1 events=1" in repr(queues)


NAMES = st.sampled_from([b"a", b"b"])
OWNERS = st.integers(1, 3)
SIDES = st.integers(0, 1)


class AgainstLists(RuleBasedStateMachine):
    """Two workers that come and go, against lists: what is in a queue, who is told, and that no item is without its event."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.environment = Environment(Path(self.directory.name) / "state", map_size=1 << 22)
        self.workers = [Worker(self.environment), Worker(self.environment)]
        self.ids: dict[bytes, int] = {}
        self.items: dict[int, deque[bytes]] = {}
        self.registrants: dict[int, list[tuple[int, int]]] = {}
        self.events: Counter[tuple[int, int, int]] = Counter()
        self.numbered = 0

    def teardown(self) -> None:
        for worker in self.workers:
            worker.close()
        self.environment.close()
        self.directory.cleanup()

    def side(self, side: int) -> SharedQueues:
        return SharedQueues(self.environment, self.workers[side])

    def told(self, queue: int) -> tuple[int, int]:
        """0 for nobody's worker, as in the tables."""
        return self.registrants[queue][-1] if self.registrants[queue] else (0, 0)

    def announce_what_is_left(self, queue: int) -> None:
        announced = sum(count for (_, _, of), count in self.events.items() if of == queue)
        silent = len(self.items[queue]) - announced
        if silent > 0:
            self.events[*self.told(queue), queue] += silent

    def leave(self, gone: list[tuple[int, int]]) -> None:
        affected = set()
        for queue, registrants in self.registrants.items():
            if registrants and registrants[-1] in gone:
                affected.add(queue)
            self.registrants[queue] = [who for who in registrants if who not in gone]
        for address in [address for address in self.events if address[:2] in gone]:
            affected.add(address[2])
            del self.events[address]
        for queue in affected:
            self.announce_what_is_left(queue)

    @rule(side=SIDES, name=NAMES, owner=OWNERS)
    def register(self, side: int, name: bytes, owner: int) -> None:
        status, queue = self.side(side).register("vm", name, owner)
        assert status is Status.OK
        assert queue == self.ids.setdefault(name, len(self.ids) + 1)
        self.items.setdefault(queue, deque())
        who = (self.workers[side].number, owner)
        registrants = self.registrants.setdefault(queue, [])
        self.registrants[queue] = [*[other for other in registrants if other != who], who]
        if self.events.pop((0, 0, queue), 0):
            self.announce_what_is_left(queue)

    @rule(side=SIDES, name=NAMES)
    def enqueue(self, side: int, name: bytes) -> None:
        queue = self.side(side).resolve("vm", name)
        assert queue == self.ids.get(name)
        if queue is None:
            return
        self.numbered += 1
        assert self.side(side).enqueue(queue, b"%d" % self.numbered) is Status.OK
        self.items[queue].append(b"%d" % self.numbered)
        self.events[*self.told(queue), queue] += 1

    @precondition(lambda self: self.ids)
    @rule(side=SIDES, queue=st.integers(1, 2))
    def dequeue(self, side: int, queue: int) -> None:
        if queue not in self.items:
            expected = (Status.NOT_FOUND, b"")
        elif self.items[queue]:
            expected = (Status.OK, self.items[queue].popleft())
        else:
            expected = (Status.EMPTY, b"")
        assert self.side(side).dequeue(queue) == expected

    @rule(side=SIDES)
    def take(self, side: int) -> None:
        number = self.workers[side].number
        mine = {address: count for address, count in self.events.items() if address[0] == number}
        assert Counter(self.side(side).take_ready()) == {address[1:]: count for address, count in mine.items()}
        for address in mine:
            del self.events[address]

    @rule(side=SIDES, owner=OWNERS)
    def release(self, side: int, owner: int) -> None:
        self.side(side).release(owner)
        self.leave([(self.workers[side].number, owner)])

    @rule(side=SIDES)
    def die(self, side: int) -> None:
        dead = self.workers[side]
        dead.close()
        self.workers[side] = Worker(self.environment)
        assert bury(self.environment, self.workers[side]) == 1
        self.leave([(dead.number, owner) for owner in range(1, 4)])

    @invariant()
    def as_many_items_and_events(self) -> None:
        statistics = self.side(0).statistics()
        assert statistics["items"] == sum(map(len, self.items.values()))
        assert statistics["events"] == sum(self.events.values())


TestAgainstLists = AgainstLists.TestCase
TestAgainstLists.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
