"""How much CPU time a VM's callbacks take, and the end of a stream that takes too much of it.

The law: a callback that nobody measures runs exactly as if this file were not there: measuring replaces the VM's functions, and
puts them back. What is called for a PluginContext (start, configuration, timers, queues) is always measured. Of what is called
for streams the first SAMPLED callbacks after every look are, and the rest of that time is taken to cost the same: the watchdog
counts the calls of all VMs anyway. A plugin with a limit for a stream's CPU time has all of them measured.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import TYPE_CHECKING, Final

from shared.proxy_wasm.failures import StreamFailed

if TYPE_CHECKING:
    from shared.proxy_wasm.calls import StreamCall
    from shared.proxy_wasm.vm import PluginVM
    from shared.proxy_wasm.watchdog import Watchdog

# One microsecond more each: a look every second costs a plugin less than a ten-thousandth of a core.
SAMPLED: Final = 64
# A stream's last callbacks: they are measured, and never refused.
LAST: Final = "finish"
_OF_A_ROOT: Final = "root_"
_NO_CALLBACK: Final = "root_settle"
# Of the flags of a head (core/context.c): only for on_log to see, no callback.
_SILENT: Final = 2
# Functions of the VM that take (input, stream, ...); `resume_head` and `take_body` never enter the guest.
_OF_A_STREAM: Final = (
    *("request_headers", "response_headers", "last_response", "body", "trailers", LAST),
    *("new_connection", "tcp_data", "tcp_closed"),
)


class CpuMeter:
    """Of one VM, for as long as it lives. `look()` is to be called now and then: it brings `seconds` up to date."""

    __slots__ = ("_calls_at", "_left", "_opened_at", "_plain", "_sampled", "_spent", "_vm", "_watchdog", "seconds")

    def __init__(self, vm: PluginVM, watchdog: Watchdog, stream_seconds: float | None) -> None:
        self.seconds = 0.0
        self._vm = vm
        self._watchdog = watchdog
        self._sampled = 0.0
        self._left = 0
        self._opened_at = self._calls_at = watchdog.entries
        self._spent: dict[int, float] = {}
        found = vars(vm)
        for owner in (vm, vm.calls):
            for name in [name for name in vars(owner) if name.startswith(_OF_A_ROOT) and name != _NO_CALLBACK]:
                setattr(owner, name, self._measured(getattr(owner, name)))
        self._plain: dict[str, StreamCall] = {name: found[name] for name in _OF_A_STREAM if name in found}
        if stream_seconds is not None:
            # `last_response` is a stream's last call or not, as it turns out.
            vm.heads_only = False
            for name, call in self._plain.items():
                setattr(vm, name, self._limited(call, stream_seconds, last=name == LAST))
            self._plain = {}
        self.look()

    def take(self) -> float:
        """The seconds since it was taken the last time."""
        self.look()
        taken, self.seconds = self.seconds, 0.0
        return taken

    def look(self) -> None:
        if self._left:
            self.seconds += self._sampled
        elif self._sampled:
            # What was sampled stands for all calls since the last look, in the proportion of the time when it was sampled.
            now = self._watchdog.entries
            self.seconds += self._sampled * max(1.0, (now - self._opened_at) / max(self._calls_at - self._opened_at, 1))
        self._sampled = 0.0
        self._opened_at = self._watchdog.entries
        if self._plain and not self._left:
            for name, call in self._plain.items():
                setattr(self._vm, name, self._sampling(call))
        self._left = SAMPLED if self._plain else 0

    def _measured(self, call: Callable[..., int]) -> Callable[..., int]:
        def run(*arguments: int) -> int:
            began = thread_time()
            try:
                return call(*arguments)
            finally:
                self.seconds += thread_time() - began

        return run

    def _sampling(self, call: StreamCall) -> StreamCall:
        def run(data: bytes, stream: int, second: int, flags: int) -> int:
            began = thread_time()
            try:
                return call(data, stream, second, flags)
            finally:
                self._sampled += thread_time() - began
                self._left -= 1
                if not self._left:
                    self._close()

        return run

    def _close(self) -> None:
        self._calls_at = self._watchdog.entries
        for name, call in self._plain.items():
            setattr(self._vm, name, call)

    def _limited(self, call: StreamCall, limit: float, *, last: bool) -> StreamCall:
        spent = self._spent

        def run(data: bytes, stream: int, second: int, flags: int) -> int:
            used = spent.get(stream, 0.0)
            if used >= limit and not last and not flags & _SILENT:
                took_ms, limit_ms = used * 1000, limit * 1000
                raise StreamFailed("stream_cpu", f"its callbacks took {took_ms:.0f} ms of CPU time, {limit_ms:g} are allowed")
            began = thread_time()
            try:
                return call(data, stream, second, flags)
            finally:
                took = thread_time() - began
                self.seconds += took
                spent[stream] = used + took
                if last:
                    del spent[stream]

        return run
