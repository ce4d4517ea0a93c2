"""A plugin under test: load a module, send it requests, look at what it did. No gateway, no store, no socket, no clock.

The law: everything happens in the call that causes it, on the caller's thread. When such a call returns, all that followed from
it is done as well: resumed requests, answered calls, queue events. Timers run when the test says so.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.code_cache import CodeCacheError, default_directory
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import PluginRefused, VmFailed
from shared.proxy_wasm.foreign.registry import ForeignFunction, ForeignFunctions
from shared.proxy_wasm.instance import GuestModule
from shared.proxy_wasm.interface import VmSettings
from shared.proxy_wasm.limits import Limits
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.testing.calls import Answers, GrpcCall, Handler, HttpCall
from shared.proxy_wasm.testing.course import Upstream
from shared.proxy_wasm.testing.facts import Facts
from shared.proxy_wasm.testing.memory import MemoryServices, Metric, Shared
from shared.proxy_wasm.testing.messages import Fields, Request, Response, as_bytes, field_lines, pieces_of, request_head
from shared.proxy_wasm.testing.stream import Stream
from shared.proxy_wasm.trace.transcript import Transcript
from shared.proxy_wasm.vm import HttpContext, PluginContext, PluginVM

# Steps that follow from one call of a test: a plugin that makes a call whenever one is answered would never end.
MOST_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Log:
    level: LogLevel
    message: str
    context_id: int


class Refused(PluginRefused):
    """The plugin answered false; `logs` is what it said until then, mostly why."""

    def __init__(self, stage: str, logs: list[Log]) -> None:
        super().__init__(stage)
        self.logs = list(logs)
        for line in logs:
            self.add_note(f"{line.level.name}: {line.message}")


@cache
def shared_engine() -> Engine:
    """One for the process, since it compiles the core. What it has compiled is kept for the next process, if it can be."""
    try:
        engine = Engine(default_directory())
    except CodeCacheError:
        engine = Engine()
    atexit.register(engine.close)
    return engine


@lru_cache(maxsize=32)
def compiled(module: bytes) -> GuestModule:
    """A module of Go's compiler takes seconds, and a test file loads the same one again and again."""
    return shared_engine().compile(module)


class _Machine:
    """One VM and what it says (VmObserver). Steps wait in `due` while a callback runs."""

    def __init__(
        self,
        module: bytes,
        settings: VmSettings,
        shared: Shared,
        transcript: Transcript | None,
        calls: Handler | None,
        foreign: Mapping[str, ForeignFunction],
    ) -> None:
        self.logs: list[Log] = []
        self.shared = shared
        self.periods: dict[PluginContext, int] = {}
        self.due: deque[Callable[[], None]] = deque()
        self._running = False
        self.transcript = transcript
        self.answers = Answers(calls, self.settle, apisix=settings.dialect == "apisix")
        settings = replace(settings, foreign=ForeignFunctions(foreign, self._foreign_event))
        services = MemoryServices(shared, settings.plugin_name)
        self.vm = PluginVM(shared_engine(), compiled(module), settings, self, services, transcript, self.answers)

    # --- VmObserver

    def log(self, level: LogLevel, context_id: int, message: str) -> None:
        self.logs.append(Log(level, message, context_id))

    def effects(self, stream: HttpContext, outcome: Outcome) -> None:
        owner = stream.owner
        assert isinstance(owner, Stream)
        self.due.append(lambda: owner.apply(outcome))

    def set_tick_period(self, plugin_context: PluginContext, milliseconds: int) -> None:
        self.periods[plugin_context] = milliseconds

    def done(self, plugin_context: PluginContext) -> None:
        self.due.append(lambda: self._delete(plugin_context))

    def _foreign_event(self, context: PluginContext, function: int, arguments: bytes) -> None:
        self.due.append(lambda: context.foreign_function(function, arguments))

    def _delete(self, context: PluginContext) -> None:
        if context.vm.failed is None and context.pending and context.delete():
            self.shared.forget(context)

    # --- steps

    def settle(self, step: Callable[[], None]) -> None:
        """Run the step now, or after what runs; then everything that is due."""
        self.due.append(step)
        if self._running:
            return
        self._running = True
        try:
            for _ in range(MOST_STEPS):
                if not self.due and not self._queue_event():
                    return
                self.due.popleft()()
            raise RuntimeError(f"the plugin causes step after step: {MOST_STEPS} so far")
        finally:
            self._running = False
            self.due.clear()

    def _queue_event(self) -> bool:
        """Puts the next event that is of this VM among the steps. An event that nobody waits for is over."""
        ready = self.shared.ready
        while ready:
            number = ready[0]
            owner = self.shared.queues[number].owner
            if owner is not None and owner.vm is not self.vm:
                return False
            ready.popleft()
            if owner is not None and self.vm.failed is None:
                self.due.append(partial(owner.queue_ready, number))
                return True
        return False


class Plugin:
    """One plugin context of a module: what a route has. Use it in a `with`, or `close` it."""

    def __init__(self, machine: _Machine, configuration: bytes) -> None:
        self._machine = machine
        contexts, said = list[PluginContext](), len(machine.logs)
        try:
            machine.settle(lambda: contexts.append(machine.vm.create_root(configuration)))
        except PluginRefused as refused:
            raise Refused(refused.stage, machine.logs[said:]) from None
        (self._context,) = contexts

    @classmethod
    def load(
        cls,
        module: str | Path | bytes,
        *,
        configuration: str | bytes = b"",
        name: str = "plugin",
        vm_configuration: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        log_level: LogLevel = LogLevel.TRACE,
        dialect: Literal["proxy-wasm", "apisix"] = "proxy-wasm",
        calls: Handler | None = None,
        foreign: Mapping[str, ForeignFunction] | None = None,
        shared: Shared | None = None,
        transcript: Transcript | None = None,
    ) -> Self:
        """Compile the module (a path, or its bytes) and start it: on_vm_start, on_configure.

        `calls` answers each HTTP call that the plugin makes; without it, or where it answers None, the call waits in
        `http_calls`. `foreign` are native functions beside Envoy's. Plugins with the same `shared` share data, queues and
        metrics. With a `transcript` every callback and host call is recorded there. Raises ModuleError or EngineError (no
        usable plugin), Refused (it answered false), VmFailed (it trapped).
        """
        data = module if isinstance(module, bytes) else Path(module).read_bytes()
        settings = VmSettings(
            name, limits or Limits(), as_bytes(vm_configuration), dict(environment or {}), log_level, dialect=dialect
        )
        machine = _Machine(data, settings, shared or Shared(), transcript, calls, foreign or {})
        return cls(machine, as_bytes(configuration))

    def sibling(self, configuration: str | bytes = b"") -> Plugin:
        """The same plugin on another route: a plugin context of its own in the same VM."""
        return Plugin(self._machine, as_bytes(configuration))

    # --- requests

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        headers: Fields = (),
        body: str | bytes = b"",
        chunks: Iterable[bytes] = (),
        trailers: Fields = (),
        authority: str = "example.com",
        response: Response | Upstream | None = None,
        facts: Facts | None = None,
    ) -> Stream:
        """A request, until it has its response or waits for something. A `body` arrives in one piece, `chunks` one by one,
        `trailers` behind them.

        `response` is what the upstream answers, or a function of the request that it gets; without it, 200 and nothing else.
        """
        answer = response if callable(response) else _always(response or Response())
        head = request_head(method, path, authority, headers)
        pieces, after = pieces_of(as_bytes(body), chunks), field_lines(trailers)
        stream = Stream(self._context, facts or Facts(), answer, self._note)
        self._machine.settle(lambda: stream.begin(head, pieces, after))
        return stream

    def abandon(self, stream: Stream) -> None:
        """The client leaves before it has its response."""
        self._machine.settle(stream.abandon)

    # --- timers and queues

    @property
    def tick_period_ms(self) -> int:
        """0: the plugin has no timer."""
        return self._machine.periods.get(self._context, 0)

    def tick(self) -> None:
        """The timer fires. Raises VmFailed."""
        self._machine.settle(self._context.tick)

    def enqueue(self, queue: str, data: str | bytes, vm_id: str = "") -> None:
        """Put something into a shared queue, whose owner hears of it. Raises KeyError when there is no such queue."""
        shared = self._machine.shared
        number = shared.find_queue(vm_id or self.name, as_bytes(queue))
        if not number:
            raise KeyError(queue)
        shared.queues[number].items.append(as_bytes(data))
        shared.ready.append(number)
        self.run_due()

    def run_due(self) -> None:
        """What other plugins with the same `shared` have caused here."""
        self._machine.settle(lambda: None)

    # --- what it did

    @property
    def name(self) -> str:
        return self._machine.vm.settings.plugin_name

    @property
    def context_id(self) -> int:
        return self._context.id

    @property
    def logs(self) -> list[Log]:
        """Everything that the VM has logged since it was loaded; clear it as you like."""
        return self._machine.logs

    @property
    def messages(self) -> list[str]:
        return [line.message for line in self._machine.logs]

    @property
    def http_calls(self) -> list[HttpCall]:
        return [call for call in self._machine.answers.made if isinstance(call, HttpCall)]

    @property
    def grpc_calls(self) -> list[GrpcCall]:
        return [call for call in self._machine.answers.made if isinstance(call, GrpcCall)]

    @property
    def shared_data(self) -> dict[bytes, bytes]:
        return {key: value for (vm_id, key), (value, _) in self._machine.shared.data.items() if vm_id == self.name}

    @property
    def queues(self) -> dict[str, list[bytes]]:
        """By name, what waits in them."""
        queues = self._machine.shared.queues.values()
        return {queue.name.decode("utf-8", "replace"): list(queue.items) for queue in queues if queue.vm_id == self.name}

    @property
    def metrics(self) -> dict[str, Metric]:
        return {metric.name: metric for metric in self._machine.shared.metrics.values()}

    @property
    def failure(self) -> VmFailed | None:
        """What the VM died of; nothing can be asked of it any more."""
        return self._machine.vm.failed

    @property
    def transcript(self) -> Transcript | None:
        return self._machine.transcript

    def _note(self, text: str) -> None:
        if self._machine.transcript is not None:
            self._machine.transcript.note(text)

    # --- the end

    def close(self) -> None:
        """on_done and on_delete for this context; the VM goes with its last one."""
        vm = self._machine.vm
        if vm.failed is None and self._context.id in vm.roots and not self._context.pending:
            self._machine.settle(self._let_go)
        if vm.failed is None and not vm.roots:
            vm.close()

    def _let_go(self) -> None:
        if self._context.delete():
            self._machine.shared.forget(self._context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _always(response: Response) -> Callable[[Request], Response]:
    return lambda request: response
