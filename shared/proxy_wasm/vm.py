"""A plugin's VM: its VMContext, PluginContexts and HttpContexts, and what their callbacks leave to be done.

The law: everything here runs on one thread and returns at once. A failure (trap, exceeded CPU time, memory) raises
`VmFailed` and ends the whole VM: it answers nothing but VmFailed from then on, and its owner builds a new one. Contexts of
a failed VM get no further callbacks.
"""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager

from shared.proxy_wasm import nginx, pairs
from shared.proxy_wasm.abi import AbiVersion, Effect, LogLevel, MapType
from shared.proxy_wasm.callouts import Callouts, Calls
from shared.proxy_wasm.calls import Call, Core
from shared.proxy_wasm.contexts import ContextIds
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import GuestTrap, PluginRefused, VmFailed
from shared.proxy_wasm.instance import GuestModule, Instance
from shared.proxy_wasm.interface import StreamOwner as StreamOwner
from shared.proxy_wasm.interface import VmObserver as VmObserver
from shared.proxy_wasm.interface import VmSettings as VmSettings
from shared.proxy_wasm.operations import Operations
from shared.proxy_wasm.outcome import Outcome, SentReply
from shared.proxy_wasm.plugin_context import HttpContext as HttpContext
from shared.proxy_wasm.plugin_context import PluginContext as PluginContext
from shared.proxy_wasm.services import SharedServices
from shared.proxy_wasm.trace.transcript import Transcript

_RESULT = struct.Struct("<14I")
_LOG = struct.Struct("<3I")

# core/core.h
_LOOK, _NO_ROOM = -1, -2
_RESULT_OUT_OFFSET = 8

_MASK = 0xFFFFFFFF
NO_GRPC_STATUS = _MASK


class PluginVM:
    """Raises EngineError (cannot be linked) or VmFailed (its start trapped) on construction."""

    def __init__(
        self,
        engine: Engine,
        module: GuestModule,
        settings: VmSettings,
        observer: VmObserver,
        services: SharedServices | None = None,
        transcript: Transcript | None = None,
        callouts: Callouts | None = None,
    ) -> None:
        self.settings = settings
        self.ids = ContextIds()
        self.roots: dict[int, PluginContext] = {}
        self.streams: dict[int, HttpContext] = {}
        self.failed: VmFailed | None = None
        self.observer = observer
        self._operations = Operations(self, services)
        start_seconds = settings.limits.start_cpu_ms / 1000
        self._instance = engine.instantiate(module, self, settings.limits.memory_bytes, transcript)
        self._core = self._instance.core
        self._bind_start(self._core, module.version, start_seconds)
        self._bind_streams(self._core, settings.limits.callback_cpu_ms / 1000)
        self.calls = Calls(self, self._core, settings.limits.callback_cpu_ms / 1000, callouts)
        self._start(self._instance, start_seconds)
        callbacks = self.callbacks = self._instance.callbacks
        self.reads_request_body = "proxy_on_request_body" in callbacks
        self.reads_response_body = "proxy_on_response_body" in callbacks
        reads_trailers = not callbacks.isdisjoint(("proxy_on_request_trailers", "proxy_on_response_trailers"))
        # In the dialect of APISIX they are never told.
        self.reads_trailers = reads_trailers and settings.dialect != "apisix"
        # Whoever drives a stream may take shortcuts: only heads matter, and nobody counts a stream's calls.
        self.heads_only = not (self.reads_response_body or self.reads_trailers)
        self.logs_streams = "proxy_on_log" in callbacks

    def _bind_start(self, core: Core, version: AbiVersion, seconds: float) -> None:
        self.root_create = core.phase("root_create", 2, seconds)
        self.root_start = core.phase("root_start", 1, seconds)
        self.root_configure = core.phase("root_configure", 1, seconds)
        self.root_settle, self._next_other = core.call("root_settle", 1), core.call("next_other", 0)
        self._log_address = core.call("log_address", 0)() & _MASK
        self._log_size = core.word(core.call("log_size_address", 0)() & _MASK)
        self._operations.bind(core, core.call("op_address", 0)() & _MASK)
        result = core.call("result_address", 0)() & _MASK
        self._result = core.reader(_RESULT, result)
        self._out_pointer = result + _RESULT_OUT_OFFSET
        self._out_address = core.word(self._out_pointer)
        if self.settings.dialect == "apisix":
            core.call("set_apisix", 0)()
        core.call("setup", 3)(version, self.settings.log_level, self.settings.limits.body_buffer_bytes)

    def _bind_streams(self, core: Core, seconds: float) -> None:
        self.root_tick, self.root_done = core.phase("root_tick", 1, seconds), core.phase("root_done", 1, seconds)
        self.root_queue_ready = core.phase("root_queue_ready", 2, seconds)
        self.root_delete = core.phase("root_delete", 1, seconds)
        self.finish = core.stream_phase("finish", seconds, 2)
        self.request_headers = core.head_phase("request_headers", seconds, self._out_pointer)
        self.response_headers = core.head_phase("response_headers", seconds, self._out_pointer)
        self.last_response = core.head_phase("last_response", seconds, self._out_pointer)
        self.body, self.body_room, self.fill = core.stream_phase("body", seconds), core.call("body_room", 3), core.fill
        self.trailers = core.stream_phase("trailers", seconds)
        self.resume_head, self.take_body = core.call("resume_head", 2), core.call("take_body", 2)
        self.new_connection = core.stream_phase("new_connection", seconds, 2)
        self.tcp_data, self.tcp_closed = core.stream_phase("tcp_data", seconds), core.stream_phase("tcp_closed", seconds)
        self.tcp_held, self.tcp_take = core.call("tcp_held", 2), core.call("tcp_take", 2)
        self.take_trailers, self._show_map = core.call("take_trailers", 2), core.call("show_map", 2)

    def _start(self, instance: Instance, seconds: float) -> None:
        settings, core = self.settings, self._core
        environment = b"".join(f"{name}={value}\0".encode() for name, value in settings.environment.items())
        try:
            core.write(settings.vm_configuration)
            kept = core.call("set_vm_configuration", 1)(len(settings.vm_configuration))
            core.write(environment)
            kept &= core.call("set_environment", 2)(len(settings.environment), len(environment))
            if not kept:
                raise GuestTrap("out_of_memory", "no room for the VM's configuration in the plugin's memory")
            instance.start_guest(seconds)
        except GuestTrap as trap:
            raise self.fail(trap) from None
        self.flush_logs()

    @property
    def memory_bytes(self) -> int:
        """Of the plugin, and of what the core keeps for it."""
        return self._instance.memory_bytes

    # --- plugin contexts

    def create_root(self, configuration: bytes) -> PluginContext:
        """on_context_create, on_vm_start, on_configure. Raises PluginRefused, VmFailed, OverflowError."""
        root = self.start_root(configuration)
        self.configure_root(root)
        return root

    def start_root(self, configuration: bytes) -> PluginContext:
        """on_context_create, on_vm_start. Raises PluginRefused, VmFailed, OverflowError."""
        root = PluginContext(self, self.ids.take(), configuration)
        self.roots[root.id] = root
        self.write(configuration)
        if self.call(self.root_create, root.id, len(configuration)) == _NO_ROOM:
            raise self.fail(GuestTrap("out_of_memory", "no room for the configuration in the plugin's memory"))
        self._ask_root(root, "vm_start", self.root_start)
        return root

    def configure_root(self, root: PluginContext) -> None:
        """on_configure. Raises PluginRefused, VmFailed."""
        self._ask_root(root, "configure", self.root_configure)

    def _ask_root(self, root: PluginContext, stage: str, function: Call) -> None:
        agreed = self.call(function, root.id)
        self.settle_root(root)
        if not agreed:
            self.drop_root(root)
            raise PluginRefused(stage)

    def drop_root(self, root: PluginContext) -> None:
        if self.call(self.root_delete, root.id):
            self.settle_others(self._result()[1])
        self.calls.drop(root)
        self.observer.set_tick_period(root, 0)
        del self.roots[root.id]
        root.ids.give_back()
        self.ids.release(root.id)

    def settle_root(self, root: PluginContext) -> None:
        if self.call(self.root_settle, root.id) == 0:
            return
        effects = self._result()[1]
        self.settle_others(effects)
        if effects & Effect.DONE and root.pending:
            self.observer.done(root)

    # --- phases

    def write(self, data: bytes) -> None:
        """Input for the next call."""
        if self.failed:
            raise self.failed
        try:
            self._core.write(data)
        except GuestTrap as trap:
            raise self.fail(trap) from None

    def call(self, function: Call, *arguments: int) -> int:
        if self.failed:
            raise self.failed
        try:
            return function(*arguments)
        except GuestTrap as trap:
            raise self.fail(trap) from None

    def output(self, size: int) -> bytes:
        """What a phase put out."""
        return self._core.read(self._out_address[0], size)

    def excused(self) -> AbstractContextManager[None]:
        """For a host function whose time is not the plugin's."""
        return self._instance.excused()

    def show_map(self, stream: HttpContext, map_type: MapType) -> pairs.Pairs | None:
        size = self._show_map(stream.id, map_type)
        return None if size < 0 else pairs.decode(self.output(size))

    def outcome(self, stream: HttpContext, answer: int) -> Outcome:
        """What `result` says, with logs delivered and other streams told."""
        if answer == _NO_ROOM:
            self.flush_logs()
            return Outcome(1, 0, no_room=True)
        return self.settle(stream)

    def passed(self) -> bytes | None:
        """After a trap in `last_response`: the response as the plugin let it pass before, empty when unchanged; else None."""
        fields = self._result()
        if not fields[1] & Effect.FINISHED:
            return None
        return self._core.read(fields[2], fields[3]) if fields[1] & Effect.CHANGED else b""

    def settle(self, stream: HttpContext) -> Outcome:
        fields = self._result()
        action, effects, out, out_size = fields[:4]
        data = self._core.read(out, out_size) if effects & Effect.CHANGED and not action else None
        reply = self._reply(fields) if effects & Effect.LOCAL_REPLY else None
        self.settle_others(effects)
        return Outcome(action, effects, data, reply)

    def _reply(self, fields: tuple[int, ...]) -> SentReply:
        read = self._core.read
        status, grpc, details, details_size, body, body_size, headers, headers_size = fields[6:]
        sent = SentReply(
            status,
            read(body, body_size),
            tuple(field for field in pairs.decode(read(headers, headers_size)) if field[0][:1] != b":"),
            read(details, details_size).decode("utf-8", "replace"),
            None if grpc == NO_GRPC_STATUS else grpc,
        )
        return nginx.with_page(sent) if self.settings.dialect == "apisix" else sent

    def settle_others(self, effects: int) -> None:
        self.flush_logs()
        while effects & Effect.OTHERS and (context_id := self.call(self._next_other)):
            fields = self._result()
            told = fields[1]
            other, root = self.streams.get(context_id), self.roots.get(context_id)
            if other is not None:
                reply = self._reply(fields) if told & Effect.LOCAL_REPLY else None
                self.observer.effects(other, Outcome(0, told, None, reply))
            elif root is not None and told & Effect.DONE and root.pending:
                self.observer.done(root)

    # --- what the core asks for (HostPort)

    def op(self, code: int) -> int:
        return self._operations(code)

    def flush_logs(self) -> None:
        pending, at = self._log_size[0], 0
        while at < pending:
            level, context_id, size = _LOG.unpack(self._core.read(self._log_address + at, _LOG.size))
            text = self._core.read(self._log_address + at + _LOG.size, size)
            self.observer.log(LogLevel(level), context_id, text.decode("utf-8", "replace"))
            at += _LOG.size + size
        self._log_size[0] = 0

    # --- failure

    def fail(self, trap: GuestTrap) -> VmFailed:
        """Deliver what the plugin said last, then let the Store go."""
        self.failed = VmFailed(trap.code, str(trap))
        self.flush_logs()
        self.close()
        return self.failed

    def close(self) -> None:
        """Without callbacks. Nothing may be called afterwards."""
        if self.failed is None:
            self.failed = VmFailed("closed", "the VM was closed")
        self.calls.close()
        self._instance.close()
