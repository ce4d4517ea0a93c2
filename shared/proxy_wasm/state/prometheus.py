"""Plugins' metrics as Prometheus reads them (text format 0.0.4).

The law: whatever names plugins choose, the page is valid: one type for each family, no sample twice, nothing that
passes for the gateway's own. As in Envoy the name is the plugin's, with no prefix.

A name carries its labels at its end, each as `k=v` after a dot, or after an underscore as the Go SDK's examples have it:
`requests.route=r1.code=200` and `requests_route=r1_code=200` are both `requests{route="r1",code="200"}`. A label's name
reaches back to the nearest dot or, without one, underscore; its value reaches to the next label, so values may hold dots.
Istio's plugins put them in front, as `k=.=v;.;`, and the name behind an underscore: `reporter=.=source;.;_requests_total`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from shared.proxy_wasm.state.metric_table import BUCKETS, U64_MASK, Metric, MetricKind

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Families of the gateway and of the usual exporters of a process. A plugin's name that begins so gets `wasmcustom_`, Envoy's
# own prefix for plugins' stats, in front.
RESERVED: Final = ("waspgate_", "apisix_", "process_", "python_")
_APART: Final = "wasmcustom_"

# Between label and value, and after each value, in Istio's names.
_IN_LABEL: Final = "=.="
_AFTER_LABEL: Final = ";.;"
_NOT_OF_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_OF_A_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
# The end of a piece between two "=": what comes before the label's name, and the name.
_BEFORE_EQUALS: Final = re.compile(r"(.*)\.([a-zA-Z_][a-zA-Z0-9_]*)|(.*)_([a-zA-Z][a-zA-Z0-9]*)", re.DOTALL)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_SUFFIXES: Final = {
    MetricKind.COUNTER: ("",),
    MetricKind.GAUGE: ("",),
    MetricKind.HISTOGRAM: ("_bucket", "_sum", "_count"),
}

Labels = tuple[tuple[str, str], ...]


def parse(stat: str) -> tuple[str, Labels]:
    """A stat's name as family and labels; a name whose "=" follows no label's name is all family."""
    if _AFTER_LABEL in stat:
        return _parse_prefixed(stat)
    first, *pieces = stat.split("=")
    labels: dict[str, str] = {}
    family, label = _split(first)
    if not pieces or not label or not family:
        return _family(stat), ()
    value = ""
    for piece in pieces[:-1]:
        before, following = _split(piece)
        if not following:
            value += f"{piece}="
            continue
        labels[_label(label)] = value + before
        label, value = following, ""
    labels[_label(label)] = value + pieces[-1]
    return _family(family), tuple(labels.items())


def _parse_prefixed(stat: str) -> tuple[str, Labels]:
    *pieces, name = stat.split(_AFTER_LABEL)
    labels = {}
    for piece in pieces:
        label, is_label, value = piece.partition(_IN_LABEL)
        if not is_label or not label:
            return _family(stat), ()
        labels[_label(label)] = value
    return _family(name.removeprefix("_")), tuple(labels.items())


def _split(piece: str) -> tuple[str, str]:
    match = _BEFORE_EQUALS.fullmatch(piece)
    if match is None:
        return piece, ""
    dotted, dotted_label, scored, scored_label = match.groups()
    return (dotted, dotted_label) if dotted_label else (scored, scored_label)


def _family(name: str) -> str:
    name = _NOT_OF_A_NAME.sub("_", name)
    if not name or name[0].isdigit():
        name = f"_{name}"
    # With an underscore: a histogram `process` has a sample `process_count`.
    return _APART + name if f"{name}_".startswith(RESERVED) else name


def _label(name: str) -> str:
    """`le` is a histogram's own, and names with two underscores are Prometheus's."""
    name = _NOT_OF_A_LABEL.sub("_", name)
    if name[0].isdigit():
        return f"_{name}"
    return f"label_{name}" if name == "le" or name.startswith("__") else name


def _added(one: Metric, other: Metric) -> Metric:
    """Two stats whose names differ only in what Prometheus does not allow are one sample."""
    buckets = tuple([a + b for a, b in zip(one.buckets, other.buckets, strict=True)])
    return Metric(one.name, one.kind, one.value + other.value, buckets, one.sum + other.sum)


def _families(metrics: Iterable[Metric]) -> dict[str, dict[Labels, Metric]]:
    families: dict[str, dict[Labels, Metric]] = {}
    kinds: dict[str, MetricKind] = {}
    taken: dict[str, str] = {}
    for metric in sorted(metrics, key=lambda metric: (metric.kind, metric.name)):
        name, labels = parse(metric.name)
        while kinds.get(name, metric.kind) is not metric.kind or any(
            taken.get(name + suffix, name) != name for suffix in ("", *_SUFFIXES[metric.kind])
        ):
            name = f"{name}_{metric.kind.name.lower()}"
        kinds[name] = metric.kind
        taken |= {name + suffix: name for suffix in ("", *_SUFFIXES[metric.kind])}
        samples = families.setdefault(name, {})
        samples[labels] = _added(samples[labels], metric) if labels in samples else metric
    return families


def render(metrics: Iterable[Metric]) -> str:
    return "".join([f"{line}\n" for line in _lines(metrics)])


def _lines(metrics: Iterable[Metric]) -> Iterator[str]:
    for family, samples in sorted(_families(metrics).items()):
        kind = next(iter(samples.values())).kind
        yield f"# TYPE {family} {kind.name.lower()}"
        for labels, metric in sorted(samples.items()):
            if kind is MetricKind.HISTOGRAM:
                yield from _histogram(family, labels, metric)
            else:
                value = metric.value & U64_MASK if kind is MetricKind.COUNTER else metric.value
                yield f"{family}{_braces(labels)} {value}"


def _histogram(family: str, labels: Labels, metric: Metric) -> Iterator[str]:
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], metric.buckets, strict=True):
        yield f"{family}_bucket{_braces((*labels, ('le', bound)))} {count}"
    yield f"{family}_sum{_braces(labels)} {metric.sum}"
    yield f"{family}_count{_braces(labels)} {metric.count}"


def _braces(labels: Labels) -> str:
    inside = ",".join([f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels])
    return f"{{{inside}}}" if inside else ""
