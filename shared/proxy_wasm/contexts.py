"""Context ids: which number a PluginContext and each of its HttpContexts has.

The law: ids count from 1 in each VM. The id of an ended HttpContext is used again only by its own PluginContext, smallest
first; the id of a deleted PluginContext, and those of its streams, by whatever comes next in the VM. So two routes with one
plugin, asked in turn, show (1,2), (3,4), (1,2), (3,4), as in APISIX.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.proxy_wasm.plugin_context import HttpContext

# As many as the core's table of contexts has places.
LAST_ID = 65535


class ContextIds:
    """The ids of one VM."""

    __slots__ = ("_free", "_next")

    def __init__(self) -> None:
        self._next = 1
        self._free: list[int] = []

    def take(self) -> int:
        """Raises OverflowError when all are in use."""
        if self._free:
            return heappop(self._free)
        if self._next > LAST_ID:
            raise OverflowError(f"the plugin's VM has {LAST_ID} contexts alive")
        self._next += 1
        return self._next - 1

    def release(self, context_id: int) -> None:
        heappush(self._free, context_id)


class StreamIds:
    """The ids of one PluginContext's HttpContexts. `spare` is one that has ended and waits to be used again, with its id: the
    smallest that is free. Most requests come one after the other, and need no other.
    """

    __slots__ = ("_free", "_vm", "spare")

    def __init__(self, vm: ContextIds) -> None:
        self._vm = vm
        self._free: list[int] = []
        self.spare: HttpContext | None = None

    def take(self) -> int:
        spare = self.spare
        if spare is not None:
            self.spare = None
            return spare.id
        return heappop(self._free) if self._free else self._vm.take()

    def release(self, context_id: int) -> None:
        heappush(self._free, context_id)
        spare = self.spare
        if spare is not None and spare.id > context_id:
            self.spare = None
            heappush(self._free, spare.id)

    def keep(self, ended: HttpContext) -> None:
        """As `release`, and it may be used again as it is."""
        if self.spare is None and not (self._free and self._free[0] < ended.id):
            self.spare = ended
        else:
            self.release(ended.id)

    def give_back(self) -> None:
        """The PluginContext is gone: its streams' ids belong to the VM again."""
        if self.spare is not None:
            self._free.append(self.take())
        for context_id in self._free:
            self._vm.release(context_id)
        self._free.clear()


class HeldStreamIds(StreamIds):
    """The ids of a PluginContext that makes calls: one is free when its stream and all calls of it have ended."""

    __slots__ = ("_calls", "_ended")

    def __init__(self, before: StreamIds) -> None:
        if before.spare is not None:
            before.release(before.take())
        self._vm = before._vm
        self._free = before._free
        self.spare = None
        self._calls: dict[int, int] = {}
        self._ended: set[int] = set()

    def hold(self, context_id: int) -> None:
        self._calls[context_id] = self._calls.get(context_id, 0) + 1

    def let_go(self, context_id: int) -> None:
        self._calls[context_id] -= 1
        if not self._calls[context_id]:
            del self._calls[context_id]
            if context_id in self._ended:
                self._ended.remove(context_id)
                self.release(context_id)

    def keep(self, ended: HttpContext) -> None:
        self.release(ended.id)

    def release(self, context_id: int) -> None:
        if context_id in self._calls:
            self._ended.add(context_id)
        else:
            super().release(context_id)
