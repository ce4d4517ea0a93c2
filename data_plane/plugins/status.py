"""How a worker's plugins are, put into words from their slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_plane.observe.status import REFUSALS_SHOWN, PluginError, PluginState, PluginStatus, Refusal
from data_plane.plugins.slots import ContextSlot, VmSlot


def plugin_statuses(vms: Iterable[VmSlot], contexts: Iterable[ContextSlot], now: float) -> Iterator[PluginStatus]:
    by_vm: dict[VmSlot, list[ContextSlot]] = {}
    for context_slot in contexts:
        by_vm.setdefault(context_slot.vm_slot, []).append(context_slot)
    for slot in vms:
        yield _status(slot, by_vm.get(slot, []), now)


def _status(slot: VmSlot, contexts: list[ContextSlot], now: float) -> PluginStatus:
    slot.measure()
    vm, record = slot.vm, slot.record
    refusals = [Refusal(context.binding.owner, context.problem) for context in contexts if context.problem]
    state = _state(slot, contexts, now)
    error = record.last_error
    return PluginStatus(
        name=slot.plugin.name,
        sha256=slot.plugin.sha256,
        failure_policy=slot.plugin.failure_policy,
        state=state,
        retry_in=round(slot.backoff.until - now, 3) if state == "waiting" else None,
        starts=record.starts,
        failures=record.failures,
        streams_cut=record.streams_cut,
        log_lines_dropped=record.log_lines_dropped,
        cpu_seconds=record.cpu_seconds,
        memory_bytes=0 if vm is None else vm.memory_bytes,
        contexts=sum(context.context is not None for context in contexts),
        streams=0 if vm is None else sum(root.streams for root in vm.roots.values()),
        pending_callouts=0 if vm is None else len(vm.calls),
        last_error=None if error is None else PluginError(error.at, error.code, error.reason),
        refusals=tuple(refusals[:REFUSALS_SHOWN]),
        refusals_total=len(refusals),
    )


def _state(slot: VmSlot, contexts: list[ContextSlot], now: float) -> PluginState:
    if slot.vm is not None:
        refused = [context.context is None and bool(context.problem) for context in contexts]
        return "refused" if refused and all(refused) else "running"
    if slot.backoff.waits(now):
        return "waiting"
    return "failed" if slot.backoff.has_failed else "idle"
