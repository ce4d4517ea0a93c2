"""A plugin's contexts: one PluginContext for each of its configurations, one HttpContext for each stream in it.

The law: a context is named by its id in its VM; what it is asked, its VM does. Nothing here outlives the VM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from shared.proxy_wasm.abi import Direction, MapType
from shared.proxy_wasm.contexts import StreamIds
from shared.proxy_wasm.failures import GuestTrap
from shared.proxy_wasm.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.proxy_wasm.calls import HeadCall
    from shared.proxy_wasm.interface import StreamOwner
    from shared.proxy_wasm.vm import PluginVM

# Bytes of a piece of a body that cost more to copy twice than a call of the core does.
LARGE: Final = 4096


class PluginContext:
    """One configuration of the plugin. `streams` are those that are open; `pending` is true between an on_done that answered
    false and proxy_done."""

    __slots__ = ("configuration", "declared", "foreign_state", "id", "ids", "pending", "streams", "vm")

    def __init__(self, vm: PluginVM, context_id: int, configuration: bytes) -> None:
        self.vm = vm
        self.id = context_id
        self.configuration = configuration
        self.ids = StreamIds(vm.ids)
        self.streams = 0
        self.pending = False
        # Of foreign functions: properties that the plugin declared (true: read-only), and what else they keep.
        self.declared: dict[bytes, bool] = {}
        self.foreign_state: dict[str, object] = {}

    def open(self, owner: StreamOwner) -> HttpContext:
        """A stream of this plugin; the guest hears of it with its first callback."""
        return HttpContext(self, owner)

    def tick(self) -> None:
        vm = self.vm
        vm.call(vm.root_tick, self.id)
        vm.settle_root(self)

    def queue_ready(self, queue: int) -> None:
        vm = self.vm
        vm.call(vm.root_queue_ready, self.id, queue)
        vm.settle_root(self)

    def foreign_function(self, function: int, arguments: bytes) -> None:
        self.vm.calls.foreign_function(self, function, arguments)

    def delete(self) -> bool:
        """on_done, and on_delete unless the plugin asked to wait. True when it is gone."""
        vm = self.vm
        if not self.pending:
            done = vm.call(vm.root_done, self.id)
            vm.settle_root(self)
            if not done:
                self.pending = True
                return False
        self.pending = False
        vm.drop_root(self)
        return True


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpContext:
    """One stream in one plugin. A phase answers None (go on, unchanged), the changed bytes, or an Outcome.

    `before_end` is called before the plugin hears of the end, where somebody wants to know. `finals` are the heads of the
    request and of the response that differ from what the plugin saw, for its last callbacks.
    """

    __slots__ = ("_owner", "before_end", "finals", "id", "opened", "root", "vm")

    def __init__(self, root: PluginContext, owner: StreamOwner | None = None) -> None:
        """Without an owner of its own only in a subclass that is one."""
        self.root = root
        self.vm = root.vm
        self.id = root.ids.take()
        self._owner = owner
        self.before_end: Callable[[HttpContext], None] | None = None
        self.opened = False
        root.streams += 1

    @property
    def owner(self) -> StreamOwner:
        assert self._owner is not None
        return self._owner

    def request_headers(self, head: bytes, eos: bool, silent: bool = False) -> bytes | Outcome | None:
        """The head: start line, field lines and framing lines, without the empty line."""
        return self._head(self.vm.request_headers, head, eos | silent << 1)

    def response_headers(self, head: bytes, eos: bool, silent: bool = False) -> bytes | Outcome | None:
        return self._head(self.vm.response_headers, head, eos | silent << 1)

    def _head(self, phase: HeadCall, head: bytes, flags: int) -> bytes | Outcome | None:
        vm = self.vm
        if vm.failed is not None:
            raise vm.failed
        if not self.opened:
            self.opened = True
            vm.streams[self.id] = self
        try:
            answer = phase(head, self.id, self.root.id, flags)
        except GuestTrap as trap:
            raise vm.fail(trap) from None
        if isinstance(answer, bytes):
            return answer or None
        return vm.outcome(self, answer)

    def body(self, direction: Direction, data: bytes, eos: bool) -> Outcome | None:
        """None: the piece goes on as it is."""
        vm = self.vm
        if vm.failed is not None:
            raise vm.failed
        way = int(direction)
        try:
            if len(data) >= LARGE:
                room = vm.body_room(self.id, direction, len(data))
                if room:
                    vm.fill(room, data)
                    way |= len(data) << 1
                    data = b""
            answer = vm.body(data, self.id, way, eos)
        except GuestTrap as trap:
            raise vm.fail(trap) from None
        return vm.outcome(self, answer) if answer else None

    def resume_head(self, map_type: MapType) -> bytes | Outcome | None:
        """After a pause in headers: the head as it stands now, None when it is unchanged."""
        vm = self.vm
        answer = vm.call(vm.resume_head, self.id, map_type)
        if not answer:
            return None
        return vm.output(answer) if answer > 0 else vm.outcome(self, answer)

    def trailers(self, direction: Direction, lines: bytes) -> Outcome | None:
        """Field lines behind the body. None: they go on as they are; else an Outcome whose `data` are the changed ones."""
        vm = self.vm
        if vm.failed is not None:
            raise vm.failed
        try:
            answer = vm.trailers(lines, self.id, direction, 0)
        except GuestTrap as trap:
            raise vm.fail(trap) from None
        return vm.outcome(self, answer) if answer else None

    def take_trailers(self, direction: Direction) -> Outcome | None:
        """After a pause in trailers, or after a last piece in which the plugin made some."""
        vm = self.vm
        answer = vm.call(vm.take_trailers, self.id, direction)
        return vm.outcome(self, answer) if answer else None

    def take_body(self, direction: Direction) -> bytes:
        """After a pause in a body: what the plugin held."""
        vm = self.vm
        return vm.output(vm.call(vm.take_body, self.id, direction))

    def finish(self, request: bytes | None = None, response: bytes | None = None) -> None:
        """on_done, on_log, on_delete. Also for a failed VM, where only the books are kept. Once: it has no id afterwards.

        The heads are those that left the gateway, where they are not what the plugin saw last.
        """
        if self.before_end is not None:
            self.before_end(self)
        vm, root = self.vm, self.root
        root.streams -= 1
        if self.opened:
            try:
                stale = 0
                if request is not None or response is not None:
                    self.finals = (request, response)
                    stale = (request is not None) << MapType.REQUEST_HEADERS | (
                        response is not None
                    ) << MapType.RESPONSE_HEADERS
                if vm.failed is None and vm.finish(b"", self.id, stale, 0):
                    vm.settle(self)
            except GuestTrap as trap:
                raise vm.fail(trap) from None
            finally:
                del vm.streams[self.id]
        root.ids.release(self.id)
