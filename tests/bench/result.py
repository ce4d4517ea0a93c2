"""From the figures of the rounds to what is reported: medians, ratios, verdicts.

The law: nothing here can fail a run; a requirement is reached or missed, and both are printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.effect import Effect
from tests.bench.load import Figures

# The project's standard: CPU per request, of Envoy's for the same work.
REQUIRED_RATIO = 0.60
# Most of what TLS and bodies cost is cryptography and the kernel's, which are nobody's own.
REQUIRED_WITH_TLS = 0.80
REQUIRED_WITH_BODIES = 0.80
# Name, label, the peer's name, what is required; the verdicts in this order.
HELD_TO_IT = (
    ("waspgate", "waspgate plain", "envoy", REQUIRED_RATIO),
    ("waspgate-plugin", "waspgate with plugin", "envoy-plugin", REQUIRED_RATIO),
    ("waspgate-tls", "waspgate with TLS", "envoy-tls", REQUIRED_WITH_TLS),
    ("waspgate-64k", "waspgate, 64 KiB", "envoy-64k", REQUIRED_WITH_BODIES),
)
# What is asked for, beside nginx and not Envoy: bodies of 10 MiB per second.
THROUGHPUT = ("waspgate-10m", "nginx-10m", 0.80)
# A header plugin may cost no more than in Envoy, and a body plugin may be no slower: name of the work, its requirement.
CHAIN = "-plugins-10"
NO_DEARER = ("-body", "body plugin, 1 MiB")
PLUGIN_PAIRS = (("Envoy", "envoy", "envoy-plugin"), ("Waspgate", "waspgate", "waspgate-plugin"))


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured, and on what; what was not asked for is empty or None."""

    rounds: Mapping[str, Sequence[Figures]]
    setting: Mapping[str, str | int | float] = field(default_factory=dict)
    memory_bytes: int | None = None
    effect: Effect | None = None
    cold_start_seconds: Sequence[float] = ()


def typical(rounds: Sequence[Figures]) -> Figures:
    """Each figure's own median."""
    return Figures(
        median(figures.requests_per_second for figures in rounds),
        median(figures.p99_ms for figures in rounds),
        median(figures.cpu_us_per_request for figures in rounds),
    )


def ratio(result: Result, name: str, peer: str) -> float | None:
    """CPU per request over the peer's, within each round."""
    ours, theirs = result.rounds.get(name), result.rounds.get(peer)
    if not ours or not theirs:
        return None
    return median(one.cpu_us_per_request / other.cpu_us_per_request for one, other in zip(ours, theirs, strict=True))


def plugin_cost_us(result: Result, without: str, with_plugin: str) -> float | None:
    plain, plugin = result.rounds.get(without), result.rounds.get(with_plugin)
    if not plain or not plugin:
        return None
    return median(one.cpu_us_per_request - other.cpu_us_per_request for one, other in zip(plugin, plain, strict=True))


def verdicts(result: Result) -> list[str]:
    lines = []
    for name, label, peer, required in HELD_TO_IT:
        measured = ratio(result, name, peer)
        if measured is not None:
            word = "reached" if measured <= required else "missed"
            lines.append(f"{label}: {measured:.2f}x of Envoy (required <= {required:.2f}): {word}")
    return [*lines, *_throughput_verdict(result), *_plugin_verdicts(result)]


def _throughput_verdict(result: Result) -> Iterator[str]:
    name, peer, required = THROUGHPUT
    ours, theirs = result.rounds.get(name), result.rounds.get(peer)
    if ours and theirs:
        pairs = zip(ours, theirs, strict=True)
        measured = median(one.requests_per_second / other.requests_per_second for one, other in pairs)
        word = "reached" if measured >= required else "missed"
        yield f"bodies of 10 MiB: {measured:.2f}x of nginx's throughput (required >= {required:.2f}): {word}"


def _plugin_verdicts(result: Result) -> Iterator[str]:
    ours, theirs = (plugin_cost_us(result, f"{name}-plugin", f"{name}{CHAIN}") for name in ("waspgate", "envoy"))
    if ours is not None and theirs is not None:
        word = "reached" if ours <= theirs else "missed"
        yield f"each further header plugin: {ours / 9:.1f} us, in Envoy {theirs / 9:.1f} us (required <= Envoy's): {word}"
    suffix, label = NO_DEARER
    measured = ratio(result, f"waspgate{suffix}", f"envoy{suffix}")
    if measured is not None:
        yield f"{label}: {measured:.2f}x of Envoy's CPU (required <= 1.00): {'reached' if measured <= 1 else 'missed'}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many of the values do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]
