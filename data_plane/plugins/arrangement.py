"""In which order the plugins of a route run, where native and Wasm plugins stand side by side.

The law: native plugins that stand side by side are one link. The request passes the phases (rewrite, access, before_proxy) and
in each the plugins of global rules, then the higher priority. The response passes native plugins in that order too, as in
APISIX, and Wasm plugins in reverse, as in Envoy: a native plugin keeps its place among all, the places of Wasm plugins are
filled from the last.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

from data_plane.config.snapshot import Binding, NativeBinding, PluginBinding
from shared.plugin.plugin import REQUEST_PHASES, Phase
from shared.plugin.program import BodyStep, HeaderStep, LogStep, RequestStep, request_steps


@dataclass(frozen=True, slots=True)
class Steps:
    """What one link of native plugins calls."""

    request: tuple[RequestStep, ...] = ()
    header_filter: tuple[HeaderStep, ...] = ()
    body_filter: tuple[BodyStep, ...] = ()
    log: tuple[LogStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The links of each direction. The last of a request's is native: its log steps are those of all."""

    request: tuple[PluginBinding | Steps, ...]
    response: tuple[PluginBinding | Steps, ...]


# Wasm plugins only, and each sees every request.
PLAIN = Arrangement((), ())


def arrange(bindings: Sequence[Binding]) -> Arrangement:
    if all(isinstance(binding, PluginBinding) and binding.passes is None for binding in bindings):
        return PLAIN
    placed = sorted(bindings, key=_place)
    return _arranged(placed, [item for phase in REQUEST_PHASES for item in _in_phase(placed, phase)])


def arrange_rest(bindings: Sequence[Binding], fresh: Container[str]) -> Arrangement:
    """What is left after the rewrite phase, but for the native plugins that still have theirs. `fresh`: their names."""
    placed = sorted(bindings, key=_place)
    left: list[PluginBinding | RequestStep] = []
    for binding in placed:
        if isinstance(binding, NativeBinding) and binding.name in fresh and not _is_global(binding):
            left += request_steps([binding.bound], REQUEST_PHASES[0])
    left += [item for phase in REQUEST_PHASES[1:] for item in _in_phase(placed, phase)]
    return _arranged(placed, left)


def _arranged(placed: list[Binding], requests: list[PluginBinding | RequestStep]) -> Arrangement:
    """`requests` is what runs of them, in order."""
    order = [item for phase in REQUEST_PHASES for item in _in_phase(placed, phase) if isinstance(item, PluginBinding)]
    backwards = reversed(order)
    responses = [binding if isinstance(binding, NativeBinding) else next(backwards) for binding in placed]
    native = [binding.bound for binding in placed if isinstance(binding, NativeBinding)]
    log = tuple(cast(LogStep, one.steps.log) for one in native if "log" in one.phases)
    seen = tuple(_grouped_responses(responses))
    if log and not (seen and isinstance(seen[-1], Steps)):
        # Does nothing, but the log steps find the response as it leaves.
        seen += (Steps(),)
    return Arrangement((*_grouped_requests(requests), Steps(log=log)), seen)


def _in_phase(placed: list[Binding], phase: Phase) -> Iterator[PluginBinding | RequestStep]:
    for binding in placed:
        if isinstance(binding, NativeBinding):
            yield from request_steps([binding.bound], phase)
        elif binding.plugin.phase == phase:
            yield binding


def _is_global(binding: Binding) -> bool:
    return binding.owner.startswith("global_rule/")


def _place(binding: Binding) -> tuple[bool, int, str, str]:
    return (not _is_global(binding), -binding.priority, binding.owner, binding.name)


def _grouped_requests(items: list[PluginBinding | RequestStep]) -> Iterator[PluginBinding | Steps]:
    for is_wasm, group in groupby(items, lambda item: isinstance(item, PluginBinding)):
        if is_wasm:
            yield from cast(Iterator[PluginBinding], group)
        else:
            yield Steps(request=tuple(cast(Iterator[RequestStep], group)))


def _grouped_responses(items: list[Binding]) -> Iterator[PluginBinding | Steps]:
    for is_wasm, group in groupby(items, lambda item: isinstance(item, PluginBinding)):
        if is_wasm:
            yield from cast(Iterator[PluginBinding], group)
            continue
        bound = [binding.bound for binding in cast(Iterator[NativeBinding], group)]
        steps = Steps(
            header_filter=tuple(one.steps.header_filter for one in bound if "header_filter" in one.phases),
            body_filter=tuple(one.steps.body_filter for one in bound if "body_filter" in one.phases),
        )
        if steps.header_filter or steps.body_filter:
            yield steps
