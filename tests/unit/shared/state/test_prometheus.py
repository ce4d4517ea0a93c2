"""The page: labels out of names, and a valid page whatever the names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.proxy_wasm.state.metric_table import BUCKETS, Metric, MetricKind
from shared.proxy_wasm.state.prometheus import RESERVED, parse, render

COUNTER, GAUGE, HISTOGRAM = MetricKind

NAMES = [
    ("requests", "requests", {}),
    ("requests.total", "requests_total", {}),
    ("requests-total/s", "requests_total_s", {}),
    ("2xx", "_2xx", {}),
    ("", "_", {}),
    ("größe", "gr__e", {}),
    ("requests.route=r1", "requests", {"route": "r1"}),
    ("requests.total.route=r1.code=200", "requests_total", {"route": "r1", "code": "200"}),
    ("requests.route_id=r_1.plugin=p.x", "requests", {"route_id": "r_1", "plugin": "p.x"}),
    ("custom_counts_value=foo_reporter=wasm", "custom_counts", {"value": "foo", "reporter": "wasm"}),
    ("requests_route=my_route.code=200", "requests", {"route": "my_route", "code": "200"}),
    ("requests.host=api.example.com.code=200", "requests", {"host": "api.example.com", "code": "200"}),
    ("requests.query=a=b", "requests", {"query": "a=b"}),
    ("requests.query=a=b.code=200", "requests", {"query": "a=b", "code": "200"}),
    ("requests.route=", "requests", {"route": ""}),
    ("requests.route=r1.route=r2", "requests", {"route": "r2"}),
    ("size.le=5", "size", {"label_le": "5"}),
    ("size.__name__=x", "size", {"label___name__": "x"}),
    ("route=r1", "route_r1", {}),
    (".route=r1", "_route_r1", {}),
    ("=", "_", {}),
    ("a.=b", "a__b", {}),
    ("reporter=.=source;.;code=.=200;.;_istio_requests_total", "istio_requests_total", {"reporter": "source", "code": "200"}),
    ("host=.=a=b.c;.;requests", "requests", {"host": "a=b.c"}),
    ("host=.=;.;le=.=5;.;2xx", "_2xx", {"host": "", "label_le": "5"}),
    ("1-2=.=x;.;_", "_", {"_1_2": "x"}),
    ("a;.;b=.=c;.;_d", "a___b___c____d", {}),
    ("host=.=a;.;_waspgate_x", "wasmcustom_waspgate_x", {"host": "a"}),
    ("waspgate_requests.route=r1", "wasmcustom_waspgate_requests", {"route": "r1"}),
    ("process", "wasmcustom_process", {}),
    ("processes", "processes", {}),
    ("waspgate.requests", "wasmcustom_waspgate_requests", {}),
]


@pytest.mark.parametrize(("stat", "family", "labels"), NAMES)
def test_a_name_carries_its_labels(stat: str, family: str, labels: dict[str, str]) -> None:
    assert parse(stat) == (family, tuple(labels.items()))


def histogram(name: str, *counts: int, total: int = 0) -> Metric:
    padded = (*counts, *[counts[-1]] * (len(BUCKETS) + 1 - len(counts)))
    return Metric(name, HISTOGRAM, buckets=padded, sum=total)


def test_a_page() -> None:
    page = render(
        [
            Metric("requests.route=r2", COUNTER, 2),
            histogram("latency.route=r1", 0, 1, 3, total=9),
            Metric("requests.route=r1", COUNTER, 2**64 - 1),
            Metric("in.flight", GAUGE, -3),
        ]
    )
    bounds = [
        0.5,
        1,
        5,
        10,
        25,
        50,
        100,
        250,
        500,
        1000,
        2500,
        5000,
        10000,
        30000,
        60000,
        300000,
        600000,
        1800000,
        3600000,
        "+Inf",
    ]
    counts = [0, 1] + [3] * 18
    assert page.splitlines() == [
        "# TYPE in_flight gauge",
        "in_flight -3",
        "# TYPE latency histogram",
        *[f'latency_bucket{{route="r1",le="{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True)],
        'latency_sum{route="r1"} 9',
        'latency_count{route="r1"} 3',
        "# TYPE requests counter",
        'requests{route="r1"} 18446744073709551615',
        'requests{route="r2"} 2',
    ]
    assert page.endswith("\n")


def test_no_metrics_are_an_empty_page() -> None:
    assert render([]) == ""


def test_values_are_escaped() -> None:
    page = render([Metric('m.path=a"b\\c\nd', COUNTER, 1)])
    assert page == '# TYPE m counter\nm{path="a\\"b\\\\c\\nd"} 1\n'


def test_names_that_become_one_are_one_sample() -> None:
    assert render([Metric("a.b", COUNTER, 1), Metric("a-b", COUNTER, 2)]) == "# TYPE a_b counter\na_b 3\n"
    page = render([histogram("h.x", 0, 1, total=1), histogram("h-x", 2, 2, total=5)])
    assert 'h_x_bucket{le="0.5"} 2\nh_x_bucket{le="1"} 3\n' in page
    assert "h_x_sum 6\nh_x_count 3\n" in page


def test_a_name_of_two_kinds_is_two_families() -> None:
    page = render([Metric("m", GAUGE, 2), Metric("m", COUNTER, 1), histogram("m", 1)])
    assert "# TYPE m counter\nm 1\n" in page
    assert "# TYPE m_gauge gauge\nm_gauge 2\n" in page
    assert "# TYPE m_histogram histogram\n" in page


def test_a_counter_does_not_pass_for_part_of_a_histogram() -> None:
    page = render([histogram("m", 1), Metric("m_sum", COUNTER, 7)])
    assert "# TYPE m_sum counter\nm_sum 7\n" in page
    assert "# TYPE m_histogram histogram\n" in page
    assert "\nm_histogram_sum 0\n" in page


SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,[a-zA-Z_].*)?\})? (-?[0-9]+)'
)
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)")
PIECES = st.sampled_from(
    ["a", "b", ".", "_", "=", "a_sum", "a_count", "le", "_bucket", "_counter", "_gauge", "\n", '"', "\\", "ü", "process_"]
)
STATS = st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=12))


@st.composite
def metrics(draw: st.DrawFn) -> list[Metric]:
    found = draw(st.sets(st.tuples(STATS, st.sampled_from(list(MetricKind))), max_size=12))
    return [histogram(name, 1, 2) if kind is HISTOGRAM else Metric(name, kind, 1) for name, kind in sorted(found)]


@given(metrics())
def test_any_names_make_a_valid_page(given_metrics: list[Metric]) -> None:
    declared: set[str] = set()
    seen: set[str] = set()
    family_of: dict[str, str] = {}
    family = kind = ""
    total = 0
    for line in render(given_metrics).split("\n")[:-1]:
        if declaration := TYPE.fullmatch(line):
            family, kind = declaration.groups()
            assert family not in declared
            declared.add(family)
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        name, labels, number = sample.groups()
        assert not name.startswith(RESERVED)
        assert name in {family + suffix for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
        assert family_of.setdefault(name, family) == family
        assert f"{name}{labels}" not in seen
        seen.add(f"{name}{labels}")
        total += 0 if kind == "histogram" else int(number)
    assert total == sum(metric.kind is not HISTOGRAM for metric in given_metrics)
