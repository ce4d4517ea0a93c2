"""The plugins of one traced request: VMs of their own, like those of the worker but for their taps.

The law: nothing of the worker's own plugins is touched. A traced request gets fresh VMs with the configuration that its route
has, which share data, queues, metrics and calls like the others, and are gone when it has ended; what a VM remembers from
earlier requests they do not know.
"""

from __future__ import annotations

from data_plane.config.snapshot import Binding, PluginBinding, WasmPlugin
from data_plane.plugins.chain import WasmChain
from data_plane.plugins.interface import ChainSink, LocalReply, StreamInfo
from data_plane.plugins.runtime import WasmRuntime
from data_plane.plugins.slots import ContextSlot
from shared.proxy_wasm.instance import GuestModule
from shared.proxy_wasm.trace.transcript import Bytes, Entry, Transcript

# Of a head, in a note.
HEAD_SHOWN = 2048


class TracedSink:
    """Notes what the chain lets go on (ChainSink)."""

    def __init__(self, sink: ChainSink, notes: Transcript) -> None:
        self._sink = sink
        self._notes = notes

    def find_route(self, head: bytes) -> None:
        self._note("the route is found anew", head)
        self._sink.find_route(head)

    def forward_request_head(self, head: bytes) -> None:
        self._note("the request goes on", head)
        self._sink.forward_request_head(head)

    def forward_request_body(self, data: bytes, eos: bool) -> None:
        self._sink.forward_request_body(data, eos)

    def forward_request_trailers(self, lines: bytes) -> None:
        self._sink.forward_request_trailers(lines)

    def forward_response_head(self, head: bytes) -> None:
        self._note("the response goes on", head)
        self._sink.forward_response_head(head)

    def forward_response_body(self, data: bytes, eos: bool) -> None:
        self._sink.forward_response_body(data, eos)

    def forward_response_trailers(self, lines: bytes) -> None:
        self._sink.forward_response_trailers(lines)

    def local_reply(self, reply: LocalReply) -> None:
        self._notes.note("a local response", status=reply.status, details=reply.details)
        self._sink.local_reply(reply)

    def abort(self, reason: str) -> None:
        self._notes.note("the stream is closed", reason=reason)
        self._sink.abort(reason)

    def _note(self, name: str, head: bytes) -> None:
        self._notes.note(name, head=Bytes(head[:HEAD_SHOWN], len(head)))


class TracedRuntime(WasmRuntime):
    """The runtime of one request, for as long as it lasts; `end` it."""

    def __init__(self, worker: WasmRuntime) -> None:
        super().__init__(worker.engine, _fetch_nothing, worker.loop, None, worker.log_level)
        self.entries: list[Entry] = []
        self.notes = Transcript(self.entries)
        self.sharing, self.calls = worker.sharing, worker.calls
        self.foreign, self.node = worker.foreign, worker.node
        self._worker = worker
        self._transcripts = [self.notes]

    @property
    def dropped(self) -> int:
        return sum(transcript.dropped for transcript in self._transcripts)

    def module_of(self, plugin: WasmPlugin) -> GuestModule:
        return self._worker.module_of(plugin)

    def open_chain(self, bindings: tuple[Binding, ...], sink: ChainSink, info: StreamInfo) -> WasmChain:
        return super().open_chain(bindings, TracedSink(sink, self.notes), info)

    def open_stream(self, bindings: tuple[Binding, ...], info: StreamInfo) -> None:
        """Always a chain: it shows what goes on."""

    def _new_slot(self, binding: PluginBinding) -> ContextSlot:
        slot = super()._new_slot(binding)
        if slot.vm_slot.transcript is None:
            slot.vm_slot.transcript = Transcript(self.entries, binding.plugin.name)
            self._transcripts.append(slot.vm_slot.transcript)
        return slot

    def end(self) -> None:
        """on_done and on_delete of every context; the VMs go whatever these answer."""
        for slot in list(self._contexts.values()):
            context = slot.context
            if context is not None:
                slot.context = None
                self._stop_ticks(context)
                self.delete_context(slot.vm_slot, context)
        for vm_slot in self._vms.values():
            vm = vm_slot.vm
            if vm is not None:
                for context in vm.roots.values():
                    self._stop_ticks(context)
                    self._stop_sharing(context)
                vm_slot.let_go()
                vm.close()


async def _fetch_nothing(digest: str) -> bytes | None:
    """Modules are the worker's, which has compiled them."""
    return None
