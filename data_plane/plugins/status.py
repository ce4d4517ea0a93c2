"""How a worker's plugins are, put into words from their slots.

The law: it costs the same whether a plugin has one context or ten thousand, because a worker does it every second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from data_plane.observe.status import REFUSALS_SHOWN, PluginError, PluginState, PluginStatus, Refusal
from data_plane.plugins.slots import VmSlot


def plugin_statuses(vms: Iterable[VmSlot], now: float) -> Iterator[PluginStatus]:
    return (_status(slot, now) for slot in vms)


def _status(slot: VmSlot, now: float) -> PluginStatus:
    slot.measure()
    vm, record = slot.vm, slot.record
    refusals = [Refusal(context.binding.owner, context.problem) for context in islice(slot.refused, REFUSALS_SHOWN)]
    state = _state(slot, now)
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
        contexts=0 if vm is None else len(vm.roots),
        streams=0 if vm is None else len(vm.streams),
        pending_callouts=0 if vm is None else len(vm.calls),
        last_error=None if error is None else PluginError(error.at, error.code, error.reason),
        refusals=tuple(refusals),
        refusals_total=len(slot.refused),
    )


def _state(slot: VmSlot, now: float) -> PluginState:
    if slot.vm is not None:
        return "refused" if slot.refused and not slot.vm.roots else "running"
    if slot.backoff.waits(now):
        return "waiting"
    return "failed" if slot.backoff.has_failed else "idle"
