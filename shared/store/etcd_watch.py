"""What one watch knows, over any number of connections: a machine from etcd's responses to the contract's batches.

The law: `next_revision` moves only past what was delivered. It moves by events (never by the header of the response
that brought them, which may be ahead while history is still being read) and by progress notes that are known to be in
order.
"""

from __future__ import annotations

from typing import Final

from aetcd import rpc

from shared.store.contract import Batch, Compacted, Event
from shared.store.etcd_history import History
from shared.store.etcd_wire import Message, event, range_of

# The watch id of a progress note that was asked for: it speaks for every watch of the stream.
_REQUESTED: Final = -1


class WatchLost(Exception):
    """This stream is over; the watch goes on over another."""


def orders_requested_progress(version: str) -> bool:
    """Before etcd 3.4.25 and 3.5.8 a requested progress note could overtake the events before it (etcd issue 15220)."""
    numbers = [int(part) if part.isdigit() else 0 for part in version.partition("-")[0].split(".")]
    fixed = {(3, 4): [3, 4, 25], (3, 5): [3, 5, 8]}.get((numbers[0], numbers[1] if len(numbers) > 1 else 0))
    return numbers >= (fixed or [3, 6])


class WatchMachine:
    """`connected`, then `create_request`, then `receive` for every response; again from the start on a new stream."""

    __slots__ = ("_history", "_pending", "_prefix", "_trusts_requested_progress", "next_revision")

    def __init__(self, prefix: str, from_revision: int, known: History | None) -> None:
        self._prefix = prefix
        self._history = known
        self._pending: list[Event] = []
        self._trusts_requested_progress = False
        self.next_revision = from_revision

    def connected(self, history: History, revision: int, version: str) -> None:
        """What a linearizable read says before the stream is opened. Raises Compacted for another history."""
        known = self._history
        self._history = history
        if revision < self.next_revision - 1 or (known is not None and not history.continues(known)):
            raise Compacted(revision)
        self._trusts_requested_progress = orders_requested_progress(version)

    def create_request(self) -> Message:
        self._pending.clear()
        start, end = range_of(self._prefix)
        return rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                key=start,
                range_end=end,
                # One revision early: a compaction at exactly the revision of a deletion forgets the deletion without
                # a word (etcd issue 18089), while one past our start is always told. 0 would mean "from now on".
                start_revision=max(1, self.next_revision - 1),
                progress_notify=True,
                fragment=True,
            )
        )

    def receive(self, response: Message) -> Batch | None:
        """Raises Compacted or WatchLost."""
        if response.compact_revision:
            raise Compacted(response.compact_revision)
        if response.canceled:
            raise WatchLost(response.cancel_reason or "cancelled by the server")
        if response.created:
            return None
        if response.events:
            return self._events(response)
        return self._progress(response)

    def _events(self, response: Message) -> Batch | None:
        self._pending += map(event, response.events)
        if response.fragment:
            return None
        events = tuple(change for change in self._pending if change.revision >= self.next_revision)
        self._pending.clear()
        return self._advance(events[-1].revision, events) if events else None

    def _progress(self, response: Message) -> Batch | None:
        if self._pending or (response.watch_id == _REQUESTED and not self._trusts_requested_progress):
            return None
        revision: int = response.header.revision
        return self._advance(revision, ()) if revision >= self.next_revision else None

    def _advance(self, revision: int, events: tuple[Event, ...]) -> Batch:
        self.next_revision = revision + 1
        return Batch(revision, events)
