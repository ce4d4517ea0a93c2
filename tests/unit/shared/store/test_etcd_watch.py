"""The watch machine, as transcripts: what etcd says, and what the watch makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aetcd import rpc
from hypothesis import given
from hypothesis import strategies as st

from shared.store.contract import Batch, Compacted
from shared.store.etcd_history import History
from shared.store.etcd_watch import WatchLost, WatchMachine, orders_requested_progress
from shared.store.etcd_wire import Message

OURS, OTHERS = History(1, b"ours"), History(1, b"others")
FIXED, OLD = "3.5.21", "3.5.1"
REQUESTED = -1


def put(key: str, revision: int) -> Message:
    pair = rpc.KeyValue(key=key.encode(), value=b"v", create_revision=revision, mod_revision=revision, version=1)
    return rpc.Event(type=rpc.Event.PUT, kv=pair)


def deletion(key: str, revision: int) -> Message:
    return rpc.Event(type=rpc.Event.DELETE, kv=rpc.KeyValue(key=key.encode(), mod_revision=revision))


def says(*events: Message, revision: int = 0, fragment: bool = False, watch_id: int = 0, created: bool = False) -> Message:
    header = rpc.ResponseHeader(revision=revision)
    return rpc.WatchResponse(header=header, events=events, fragment=fragment, watch_id=watch_id, created=created)


def machine(from_revision: int = 10, revision: int = 9, version: str = FIXED) -> WatchMachine:
    watch = WatchMachine("/a/", from_revision, OURS)
    watch.connected(OURS, revision, version)
    return watch


def shown(batch: Batch | None) -> tuple[int, list[tuple[str, int]]] | None:
    return None if batch is None else (batch.revision, [(event.key, event.revision) for event in batch.events])


def start(watch: WatchMachine) -> int:
    revision: int = watch.create_request().create_request.start_revision
    return revision


def test_events_become_a_batch_up_to_the_last_of_them() -> None:
    watch = machine()
    assert watch.receive(says(created=True, revision=9)) is None
    batch = watch.receive(says(put("/a/1", 10), put("/a/2", 10), deletion("/a/1", 12), revision=12))
    assert shown(batch) == (12, [("/a/1", 10), ("/a/2", 10), ("/a/1", 12)])
    assert batch is not None
    assert [event.entry is None for event in batch.events] == [False, False, True]
    assert watch.next_revision == 13


def test_the_header_of_a_catch_up_does_not_advance() -> None:
    """While history is read in steps, the header already shows the newest revision."""
    watch = machine(revision=5000)
    assert shown(watch.receive(says(put("/a/1", 1010), revision=5000))) == (1010, [("/a/1", 1010)])
    assert watch.next_revision == 1011
    assert shown(watch.receive(says(put("/a/1", 2010), revision=5000))) == (2010, [("/a/1", 2010)])


def test_the_stream_starts_one_revision_early_and_drops_it() -> None:
    watch = machine()
    assert start(watch) == 9
    assert watch.receive(says(put("/a/1", 9), revision=9)) is None
    assert shown(watch.receive(says(put("/a/1", 9), put("/a/1", 10), revision=10))) == (10, [("/a/1", 10)])


@pytest.mark.parametrize(("from_revision", "begins"), [(0, 1), (1, 1), (2, 1), (3, 2)])
def test_a_start_is_never_zero(from_revision: int, begins: int) -> None:
    """Zero would mean from now on, and lose what is before."""
    assert start(WatchMachine("/a/", from_revision, None)) == begins


def test_fragments_are_one_batch() -> None:
    watch = machine()
    assert watch.receive(says(put("/a/1", 10), put("/a/2", 10), revision=11, fragment=True)) is None
    assert watch.receive(says(revision=99, watch_id=REQUESTED)) is None
    assert watch.receive(says(put("/a/3", 10), revision=11, fragment=True)) is None
    assert watch.next_revision == 10
    batch = watch.receive(says(put("/a/4", 11), revision=11))
    assert shown(batch) == (11, [("/a/1", 10), ("/a/2", 10), ("/a/3", 10), ("/a/4", 11)])


def test_fragments_cut_off_by_a_lost_stream_are_forgotten() -> None:
    watch = machine()
    watch.receive(says(put("/a/1", 10), revision=10, fragment=True))
    watch.connected(OURS, 10, FIXED)
    assert start(watch) == 9
    assert shown(watch.receive(says(put("/a/1", 10), put("/a/2", 10), revision=10))) == (10, [("/a/1", 10), ("/a/2", 10)])


def test_progress_advances_and_is_delivered() -> None:
    watch = machine()
    assert shown(watch.receive(says(revision=20))) == (20, [])
    assert watch.receive(says(revision=20)) is None
    assert watch.receive(says(revision=15)) is None
    assert (watch.next_revision, start(watch)) == (21, 20)


@pytest.mark.parametrize(("version", "advances"), [(FIXED, True), (OLD, False), ("", False)])
def test_requested_progress_counts_where_it_cannot_overtake_events(version: str, advances: bool) -> None:
    watch = machine(version=version)
    assert shown(watch.receive(says(revision=20, watch_id=REQUESTED))) == ((20, []) if advances else None)
    assert watch.next_revision == (21 if advances else 10)


@pytest.mark.parametrize(
    ("version", "orders"),
    [
        ("3.4.24", False),
        ("3.4.25", True),
        ("3.4.100", True),
        ("3.5.7", False),
        ("3.5.8", True),
        ("3.6.0", True),
        ("3.6.0-rc.1", True),
        ("3.10.0", True),
        ("4.0.0", True),
        ("3.3.99", False),
        ("2.3.7", False),
        ("", False),
        ("unknown", False),
        ("3", False),
    ],
)
def test_which_versions_order_progress(version: str, orders: bool) -> None:
    assert orders_requested_progress(version) is orders


def test_compaction_and_cancellation_end_the_stream() -> None:
    watch = machine()
    with pytest.raises(Compacted) as caught:
        watch.receive(rpc.WatchResponse(canceled=True, compact_revision=30))
    assert caught.value.compact_revision == 30
    with pytest.raises(WatchLost, match="no leader"):
        watch.receive(rpc.WatchResponse(canceled=True, cancel_reason="etcdserver: no leader"))


@pytest.mark.parametrize(
    ("known", "history", "revision", "ends"),
    [
        (OURS, OURS, 9, False),
        (OURS, OURS, 1000, False),
        (OURS, OURS, 8, True),
        (OURS, OTHERS, 1000, True),
        (OURS, History(1, None), 1000, True),
        (OURS, History(2, b"ours"), 1000, True),
        (None, OTHERS, 9, False),
        (None, OTHERS, 8, True),
        (History(1, None), OURS, 9, False),
    ],
)
def test_another_history_is_compacted(known: History | None, history: History, revision: int, ends: bool) -> None:
    watch = WatchMachine("/a/", 10, known)
    if ends:
        with pytest.raises(Compacted):
            watch.connected(history, revision, FIXED)
    else:
        watch.connected(history, revision, FIXED)


def test_the_first_history_seen_is_the_one_that_must_continue() -> None:
    watch = WatchMachine("/a/", 10, None)
    watch.connected(OURS, 9, FIXED)
    with pytest.raises(Compacted):
        watch.connected(OTHERS, 1000, FIXED)


@given(
    revisions=st.sets(st.integers(2, 60), min_size=1, max_size=20).map(sorted),
    cuts=st.lists(st.integers(0, 20), max_size=4),
    data=st.data(),
)
def test_every_event_is_delivered_once_in_order_over_any_cuts(
    revisions: list[int], cuts: list[int], data: st.DataObject
) -> None:
    """A server that sends from the requested start, in responses and fragments of any size, over streams lost anywhere."""
    watch = WatchMachine("/a/", 2, OURS)
    delivered: list[int] = []
    for cut in (*cuts, None):
        watch.connected(OURS, revisions[-1], OLD)
        begin = start(watch)
        for response in _responses([revision for revision in revisions if revision >= begin], data)[:cut]:
            batch = watch.receive(response)
            if batch is not None:
                delivered += [event.revision for event in batch.events]
    assert delivered == [revision for revision in revisions for _ in range(2)]


def _responses(revisions: Sequence[int], data: st.DataObject) -> list[Message]:
    responses = []
    index = 0
    while index < len(revisions):
        count = data.draw(st.integers(1, 3))
        events = [put(key, revision) for revision in revisions[index : index + count] for key in ("/a/1", "/a/2")]
        index += count
        if data.draw(st.booleans()):
            responses.append(says(*events[:1], revision=revisions[-1], fragment=True))
            events = events[1:]
        responses.append(says(*events, revision=revisions[-1]))
        if data.draw(st.booleans()):
            responses.append(says(revision=revisions[-1], watch_id=REQUESTED))
    return responses
