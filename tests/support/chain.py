"""A worker's plugin runtime under a loop that a test turns by hand, and one transcript of what plugins and exchange see.

The law: a line is `NAME CALLBACK ARGUMENTS` or `NAME COMMAND: RESULT` for what the plugin NAME logged (without results that are
plain OK), and `> ...` or `< ...` for what the chain let go on to the upstream or the client.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from hashlib import sha256
from typing import cast

from data_plane.config.snapshot import FailurePolicy, Limits, PluginBinding, Route, Snapshot, Timeouts, WasmPlugin
from data_plane.plugins.chain import WasmChain
from data_plane.plugins.interface import LocalReply
from data_plane.plugins.runtime import WasmRuntime
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.instance import GuestModule
from tests.support.guest import Facts, console

GET = b"GET /p HTTP/1.1\r\nhost: h\r\n"
OK = b"HTTP/1.1 200 OK\r\nserver: up\r\n"
SILENT = ("context_create", "vm_start", "configure")


class KeptEngine(Engine):
    """Compiles each module once, however many runtimes ask."""

    kept: dict[tuple[bytes, frozenset[str] | None], GuestModule]

    def compile(self, data: bytes, capabilities: frozenset[str] | None = None) -> GuestModule:
        if not hasattr(self, "kept"):
            self.kept = {}
        key = (data, capabilities)
        if key not in self.kept:
            self.kept[key] = super().compile(data, capabilities)
        return self.kept[key]


class Call:
    """What the loop will do; as much of a TimerHandle as the runtime uses."""

    def __init__(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.callback = callback
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualLoop:
    """As much of an event loop as the runtime uses. Time stands until `advance`; what is due runs then, in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._numbers = itertools.count()
        self._calls: list[tuple[float, int, Call]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Call:
        call = Call(callback, arguments)
        heapq.heappush(self._calls, (self.now + delay, next(self._numbers), call))
        return call

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> Call:
        return self.call_later(when - self.now, callback, *arguments)

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> Call:
        return self.call_later(0.0, callback, *arguments)

    def advance(self, seconds: float = 0.0) -> None:
        end = self.now + seconds
        while self._calls and self._calls[0][0] <= end:
            self.now, _, call = heapq.heappop(self._calls)
            if not call.cancelled:
                call.callback(*call.arguments)
        self.now = end

    def turn(self) -> None:
        """The next thing that is due now."""
        _, _, call = heapq.heappop(self._calls)
        if not call.cancelled:
            call.callback(*call.arguments)

    @property
    def waiting(self) -> int:
        return sum(not call.cancelled for _, _, call in self._calls)


class Journal:
    """Stands for the runtime's logger, and collects what the sinks see."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[str] = []

    def take(self) -> list[str]:
        lines = self.lines[:]
        self.lines.clear()
        return lines

    def bind(self, plugin: str) -> PluginJournal:
        return PluginJournal(self, plugin)

    def error(self, event: str, **fields: object) -> None:
        self.failures.append(f"{event}: {fields.get('reason')}")


class PluginJournal:
    def __init__(self, journal: Journal, plugin: str) -> None:
        self.journal = journal
        self.plugin = plugin

    def info(self, message: str, **_: object) -> None:
        if message.partition(" ")[0] not in SILENT and not message.endswith(": OK"):
            self.journal.lines.append(f"{self.plugin} {message}")

    debug = warning = critical = info

    def error(self, message: str, **fields: object) -> None:
        if "code" in fields:
            self.journal.failures.append(f"{self.plugin} {fields['code']}")
        else:
            self.info(message)


class Case:
    """One request: the chain, and the exchange's side of it (ChainSink)."""

    def __init__(self, runtime: WasmRuntime, bindings: tuple[PluginBinding, ...], journal: Journal) -> None:
        self.journal = journal
        self.replies: list[LocalReply] = []
        self.has_left = self.is_cut = False
        self.facts = Facts()
        self.chain: WasmChain = runtime.open_chain(bindings, self, self.facts)

    def _line(self, direction: str, head: bytes) -> None:
        assert head.endswith(b"\r\n")
        self.journal.lines.append(f"{direction} {'|'.join(head.decode('latin-1')[:-2].split(chr(13) + chr(10)))}")

    def forward_request_head(self, head: bytes) -> None:
        self._line(">", head)

    def forward_request_body(self, data: bytes, eos: bool) -> None:
        self.journal.lines.append(f"> {data.decode()!r}{' eos' if eos else ''}")

    def find_route(self, head: bytes) -> None:
        self._line("route of", head)

    def forward_request_trailers(self, lines: bytes) -> None:
        self._line("> trailers", lines or b"\r\n")

    def forward_response_trailers(self, lines: bytes) -> None:
        self.has_left = True
        self._line("< trailers", lines or b"\r\n")

    def forward_response_head(self, head: bytes) -> None:
        """It waits for the body when a plugin reads that: only then its length is known."""
        self._line("<", head)
        self.has_left |= not self.chain.reads_response_body

    def forward_response_body(self, data: bytes, eos: bool) -> None:
        self.has_left = True
        if self.is_cut:
            return
        self.journal.lines.append(f"< {data.decode()!r}{' eos' if eos else ''}")

    def local_reply(self, reply: LocalReply) -> None:
        """As the exchange does: the reply goes through the chain, unless it comes too late."""
        if self.has_left:
            self.journal.lines.append(f"cut {reply.details}")
            self.is_cut = True
            return
        self.journal.lines.append(f"reply {reply.status} {reply.details}".rstrip())
        self.replies.append(reply)
        lines = [b"HTTP/1.1 %d Reply\r\n" % reply.status, *(b"%b: %b\r\n" % field for field in reply.fields)]
        self.chain.response_head(b"".join(lines), b"content-length: %d\r\n" % len(reply.body), not reply.body)
        if reply.body:
            self.chain.response_body(reply.body, True)

    def abort(self, reason: str) -> None:
        self.journal.lines.append(f"abort {reason}")

    def request(self, *pieces: bytes, head: bytes = GET) -> list[str]:
        """The whole request: its head and the pieces of its body."""
        self.chain.request_head(head, b"", not pieces)
        for k, piece in enumerate(pieces):
            self.chain.request_body(piece, k == len(pieces) - 1)
        return self.journal.take()

    def response(self, *pieces: bytes, head: bytes = OK) -> list[str]:
        self.chain.response_head(head, b"", not pieces)
        for k, piece in enumerate(pieces):
            self.chain.response_body(piece, k == len(pieces) - 1)
        return self.journal.take()

    def finish(self) -> list[str]:
        self.chain.finish()
        return self.journal.take()


class Worker:
    """A runtime with console plugins."""

    def __init__(self, engine: Engine) -> None:
        self.loop = ManualLoop()
        self.journal = Journal()
        self.modules: dict[str, bytes] = {}
        self.runtime = WasmRuntime(engine, self._fetch, cast(asyncio.AbstractEventLoop, self.loop))
        self.runtime.logger = self.journal

    async def _fetch(self, digest: str) -> bytes | None:
        return self.modules.get(digest)

    def plugin(
        self,
        name: str,
        *,
        policy: FailurePolicy = "fail_closed",
        module: bytes | None = None,
        limits: Limits | None = None,
        capabilities: frozenset[str] | None = None,
    ) -> WasmPlugin:
        data = console() if module is None else module
        digest = sha256(data).hexdigest()
        self.modules[digest] = data
        plugin = WasmPlugin(name, 0, digest, failure_policy=policy, limits=limits or Limits(), capabilities=capabilities)
        asyncio.run(self.runtime.prepare(plugin))
        return plugin

    def bind(
        self, name: str, *script: str, policy: FailurePolicy = "fail_closed", limits: Limits | None = None
    ) -> PluginBinding:
        """A plugin of its own on route 1."""
        return bind(self.plugin(name, policy=policy, limits=limits), *script)

    def open(self, *bindings: PluginBinding) -> Case:
        return Case(self.runtime, bindings, self.journal)

    def take(self) -> list[str]:
        return self.journal.take()


def bind(plugin: WasmPlugin, *script: str, owner: str = "route/1") -> PluginBinding:
    return PluginBinding(plugin, "\n".join(script).encode(), owner, 0)


class NoRouter:
    def match(self, method: bytes, host: bytes, path: bytes) -> Route | None:
        return None


def snapshot(*bindings: PluginBinding) -> Snapshot:
    """Each binding on the route that owns it."""
    owners = {binding.owner.partition("/")[2] for binding in bindings}
    routes = {
        name: Route(name, name, None, tuple(b for b in bindings if b.owner == f"route/{name}"), Timeouts()) for name in owners
    }
    return Snapshot(1, NoRouter(), routes, (), {binding.plugin.name: binding.plugin for binding in bindings})
