"""The order in which routes are tried: by table, against a naive oracle, and through changes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.routing import dict_change, path_change, path_table
from data_plane.routing.router import Conditions, RouteEntry, Router
from data_plane.routing.steps import finish
from shared.host_pattern import parse_hosts
from shared.path_pattern import parse_paths

if TYPE_CHECKING:
    from _typeshed import TraceFunction

# What `match` answers for a route with a requirement.
BY_REQUIREMENT = "?"


def entry(
    id: str,
    uri: str | Sequence[str],
    *,
    hosts: Sequence[str] = (),
    methods: Sequence[str] | None = None,
    priority: int = 0,
) -> RouteEntry[str]:
    uris = [uri] if isinstance(uri, str) else uri
    allowed = None if methods is None else frozenset(method.encode() for method in methods)
    return RouteEntry(id, Conditions(parse_hosts(hosts), parse_paths(uris), allowed, priority), id)


def router(*entries: RouteEntry[str]) -> Router[str]:
    table = empty()
    change(table, (), entries)
    return table


def empty() -> Router[str]:
    return Router(BY_REQUIREMENT)


def change(table: Router[str], removed: Sequence[RouteEntry[str]], added: Sequence[RouteEntry[str]]) -> None:
    finish(table.prepare(removed, added))()


def find(table: Router[str], path: str, host: str = "any.test", method: str = "GET") -> str | None:
    return table.match(method.encode(), host.encode(), path.encode())


@pytest.mark.parametrize(
    ("entries", "path", "winner"),
    [
        # One kind at a time.
        ([entry("1", "/foo")], "/foo", "1"),
        ([entry("1", "/foo")], "/foo/", None),
        ([entry("1", "/foo")], "/fo", None),
        ([entry("1", "/foo*")], "/foo", "1"),
        ([entry("1", "/foo*")], "/foobar", "1"),
        ([entry("1", "/foo*")], "/foo/x", "1"),
        ([entry("1", "/foo/*")], "/foo", None),
        ([entry("1", "/foo/*")], "/foo/", "1"),
        ([entry("1", "/u/:id")], "/u/7", "1"),
        ([entry("1", "/u/:id")], "/u/", None),
        ([entry("1", "/u/:id")], "/u/7/", None),
        ([entry("1", "/u/:id/p")], "/u/7/p", "1"),
        ([entry("1", "/u/:id/p")], "/u//p", None),
        ([entry("1", "/u/:id/*")], "/u/7/", "1"),
        ([entry("1", "/u/:id/*")], "/u/7/a/b", "1"),
        ([entry("1", "/u/:id/*")], "/u/7", None),
        ([entry("1", "/u/:id/ab*")], "/u/7/abc/d", "1"),
        ([entry("1", "/u/:id/ab*")], "/u/7/a", None),
        ([entry("1", "*")], "*", "1"),
        # A `*` that begins a segment takes slashes too, and other text may follow.
        ([entry("1", "/a/*/c")], "/a/b/c", "1"),
        ([entry("1", "/a/*/c")], "/a/b/x/c", "1"),
        ([entry("1", "/a/*/c")], "/a/c", None),
        ([entry("1", "/a/*/c")], "/a/b/c/", None),
        ([entry("1", "/a/*/c.d")], "/a/b/cxd", None),
        ([entry("1", "/a/*/c/*")], "/a/1/2/c/3", "1"),
        ([entry("1", "/a/*/:id/c")], "/a/1/2/c", "1"),
        ([entry("1", "/a/*/:id/c")], "/a/1/c", None),
        ([entry("1", "/a/*rest")], "/a/b/c", "1"),
        # An exact path beats any prefix whatever the priority.
        ([entry("1", "/foo"), entry("2", "/*", priority=9)], "/foo", "1"),
        # The longest prefix, walking up.
        ([entry("1", "/*"), entry("2", "/a/*"), entry("3", "/a/b/*")], "/a/b/c", "3"),
        ([entry("1", "/*"), entry("2", "/a/*"), entry("3", "/a/b/*")], "/a/c", "2"),
        ([entry("1", "/*", priority=9), entry("2", "/a/*")], "/a/c", "2"),
        # Parameters between exact paths and the prefixes of their stem.
        ([entry("1", "/u/me"), entry("2", "/u/:id", priority=9)], "/u/me", "1"),
        ([entry("1", "/u/*"), entry("2", "/u/:id")], "/u/7", "2"),
        ([entry("1", "/u/*", priority=1), entry("2", "/u/:id")], "/u/7", "1"),
        ([entry("1", "/u/*"), entry("2", "/u/:id")], "/u/7/8", "1"),
        ([entry("1", "/a/:x/:y"), entry("2", "/a/:x/c")], "/a/b/c", "2"),
        ([entry("1", "/a/:x/:long_name"), entry("2", "/a/:x/c")], "/a/b/d", "1"),
        ([entry("1", "/a/b/*"), entry("2", "/a/:x/c")], "/a/b/c", "1"),
        ([entry("1", "/a/:x/*"), entry("2", "/a/:x/c*")], "/a/b/cd", "2"),
        # Stars before other text stand among those of their stem.
        ([entry("1", "/a/*"), entry("2", "/a/*/c")], "/a/b/c", "2"),
        ([entry("1", "/a/*", priority=1), entry("2", "/a/*/c")], "/a/b/c", "1"),
        ([entry("1", "/a/*/c"), entry("2", "/a/b/*")], "/a/b/c", "2"),
        ([entry("1", "/a/*/c"), entry("2", "/a/*/b/c")], "/a/x/b/c", "2"),
        # One path: priority, then key order.
        ([entry("2", "/foo"), entry("1", "/foo")], "/foo", "1"),
        ([entry("1", "/foo"), entry("2", "/foo", priority=1)], "/foo", "2"),
        ([entry("1", "/foo", priority=-1), entry("2", "/foo")], "/foo", "2"),
        # Spelling does not matter.
        ([entry("1", "/caf%c3%a9")], "/caf%C3%A9", "1"),
        ([entry("1", ["/a%7E", "/a~"])], "/a~", "1"),
    ],
)
def test_paths(entries: list[RouteEntry[str]], path: str, winner: str | None) -> None:
    assert find(router(*entries), path) == winner


@pytest.mark.parametrize(
    ("host", "path", "winner"),
    [
        ("a.foo.com", "/x", "exact"),
        ("a.foo.com", "/deep", "long"),
        ("b.a.foo.com", "/deep", "long"),
        ("z.foo.com", "/x", "wild"),
        ("b.z.foo.com", "/x", "wild"),
        ("foo.com", "/x", "loose"),
        ("xfoo.com", "/x", "loose"),
        ("a.foo.com", "/only-anywhere", "anywhere"),
        ("other.org", "/x", "star"),
        ("other.org", "/only-anywhere", "anywhere"),
        ("", "/only-anywhere", "anywhere"),
    ],
)
def test_hosts(host: str, path: str, winner: str) -> None:
    table = router(
        entry("anywhere", ["/x", "/only-anywhere"], priority=99),
        entry("star", "/x", hosts=["*"]),
        entry("loose", "/x*", hosts=["*foo.com"]),
        entry("wild", "/x*", hosts=["*.foo.com"]),
        entry("long", "/deep", hosts=["*a.foo.com"]),
        entry("exact", "/x*", hosts=["A.foo.com"]),
    )
    assert find(table, path, host) == winner


def test_methods_fall_through_to_the_next_candidate() -> None:
    table = router(
        entry("1", "/foo", methods=["POST"], priority=9),
        entry("2", "/foo", methods=["PUT", "DELETE"]),
        entry("3", "/fo*", methods=["GET"]),
        entry("4", "/*"),
    )
    answers = {method: find(table, "/foo", method=method) for method in ("POST", "DELETE", "GET", "HEAD", "BREW")}
    assert answers == {"POST": "1", "DELETE": "2", "GET": "3", "HEAD": "4", "BREW": "4"}


def test_a_host_that_takes_no_path_or_method_falls_to_less_specific_hosts() -> None:
    table = router(entry("1", "/x", hosts=["a.b.c"], methods=["POST"]), entry("2", "/x", hosts=["*.c"]))
    assert [find(table, "/x", "a.b.c", method) for method in ("POST", "GET")] == ["1", "2"]


def test_a_change_is_seen_when_it_is_done_and_not_before() -> None:
    first = entry("1", "/foo*", hosts=["a.b"])
    table = router(first)
    second = entry("1", "/bar", hosts=["a.b"])
    apply = finish(table.prepare([first], [second]))
    assert (find(table, "/foo", "a.b"), find(table, "/bar", "a.b")) == ("1", None)
    apply()
    assert (find(table, "/foo", "a.b"), find(table, "/bar", "a.b")) == (None, "1")
    change(table, [second], [])
    assert find(table, "/bar", "a.b") is None


# The oracle tries every pattern of every route as a regular expression and sorts the fitting ones.

_SEGMENT = st.sampled_from(["a", "b", "ab", ":x", ":yy", "*", "*s", ""])
_URIS = st.builds(
    lambda segments, star: "/" + "/".join(segments) + star,
    st.lists(_SEGMENT, max_size=4),
    st.sampled_from(["", "", "*"]),
).filter(lambda uri: not re.search(r":\w+\*|:(\w+)/.*:\1(/|$)|\*\w*\*|\*s/.*\*s", uri))
_HOSTS = st.sampled_from(["a.c", "b.a.c", "*.c", "*.a.c", "*a.c", "*", "c"])
_ENTRIES = st.builds(
    entry,
    st.text("0123456789", min_size=1, max_size=2),
    st.lists(_URIS, min_size=1, max_size=3),
    hosts=st.lists(_HOSTS, max_size=2),
    methods=st.none() | st.lists(st.sampled_from(["GET", "PUT"]), min_size=1),
    priority=st.integers(0, 2),
)
_TABLES = st.dictionaries(st.integers(0, 30).map(str), _ENTRIES, max_size=12).map(
    lambda table: [RouteEntry(id, found.conditions, id) for id, found in table.items()]
)
_REQUESTS = st.tuples(
    st.sampled_from(["GET", "PUT", "HEAD"]),
    st.sampled_from(["a.c", "b.a.c", "x.b.a.c", "c", "xa.c", "other"]),
    st.lists(st.sampled_from(["a", "b", "ab", "q", ""]), max_size=5).map(lambda parts: "/" + "/".join(parts)),
)


def oracle(entries: Sequence[RouteEntry[str]], method: str, host: str, path: str) -> str | None:
    found: list[tuple[tuple[int, int], tuple[int, int], int, int, int, str]] = []
    for candidate in entries:
        conditions = candidate.conditions
        if conditions.methods is not None and method.encode() not in conditions.methods:
            continue
        for pattern in conditions.paths:
            text = pattern.text.decode()
            regex = "".join(
                "[^/]+" if re.fullmatch(":.+", part) else ".*" if part.startswith("*") else re.escape(part)
                for part in re.split(r"(?<=/)(:[^/]+)|(\*\w*)", text)
                if part
            )
            if not re.fullmatch(regex, path):
                continue
            literal = sum(len(part) for part in re.split(r"(?<=/):[^/]+|\*\w*", text))
            stem = len(re.split(r"(?<=/):[^/]+|\*\w*", text)[0])
            by_path = (0, 0) if regex == re.escape(text) else (1, -stem)
            rest = (-conditions.priority, -literal, -len(text))
            for name in conditions.hosts or (None,):
                if name is None:
                    by_host = (2, 0)
                elif name.wildcard:
                    if not host.endswith(name.name.decode()):
                        continue
                    by_host = (1, -len(name.name))
                elif host == name.name.decode():
                    by_host = (0, 0)
                else:
                    continue
                found.append((by_host, by_path, *rest, candidate.id))
    return min(found)[-1] if found else None


@settings(max_examples=400)
@given(_TABLES, st.lists(_REQUESTS, min_size=1, max_size=10))
def test_it_agrees_with_the_oracle(entries: list[RouteEntry[str]], requests: list[tuple[str, str, str]]) -> None:
    table = router(*entries)
    for method, host, path in requests:
        assert find(table, path, host, method) == oracle(entries, method, host, path)


@settings(max_examples=60)
@given(st.lists(_TABLES, min_size=2, max_size=4), st.lists(_REQUESTS, min_size=1, max_size=10), st.booleans())
def test_changes_lead_where_building_anew_leads(
    states: list[list[RouteEntry[str]]], requests: list[tuple[str, str, str]], much: bool
) -> None:
    """Whether little or much changes in tables that count as small or large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_table, "FEW", 1 if much else 16)
        patch.setattr(path_change, "FEW", 1 if much else 16)
        patch.setattr(dict_change, "IN_PLACE", 2 if much else 1000)
        table = empty()
        before: list[RouteEntry[str]] = []
        for state in states:
            removed, added = [old for old in before if old not in state], [new for new in state if new not in before]
            apply = finish(table.prepare(removed, added))
            for method, host, path in requests:
                assert find(table, path, host, method) == oracle(before, method, host, path)
            apply()
            before = state
    for method, host, path in requests:
        assert find(table, path, host, method) == oracle(before, method, host, path)


def lines_of(action: Callable[[], object]) -> int:
    """How many lines of Python it takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return count


def many(number: int) -> list[RouteEntry[str]]:
    """Half of them with a host, all with an exact path, a prefix, and a parameter and a star behind one stem."""
    return [
        entry(
            str(index),
            [f"/svc{index:06}/*", f"/svc{index:06}", f"/u/:id/p{index:06}", f"/s/*/q{index:06}"],
            hosts=[f"h{index % (number // 4)}.test"] if index % 2 else [],
        )
        for index in range(number)
    ]


@pytest.fixture(scope="module")
def large() -> tuple[list[RouteEntry[str]], Router[str]]:
    entries = many(4000)
    return entries, router(*entries)


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/svc000004", "a.b"),
        ("/svc000004/x", "a.b"),
        ("/svc000003/x", "h1.test"),
        ("/u/7/p000004", "a.b"),
        ("/s/7/q000004", "a.b"),
    ],
)
def test_a_match_takes_no_longer_among_many_routes(
    large: tuple[list[RouteEntry[str]], Router[str]], path: str, host: str
) -> None:
    small, table = router(*many(12)), large[1]
    few = lines_of(lambda: find(small, path, host))
    assert find(table, path, host) == find(small, path, host) is not None or host != "a.b"
    assert lines_of(lambda: find(table, path, host)) <= few


def test_a_change_of_one_route_takes_no_longer_among_many(large: tuple[list[RouteEntry[str]], Router[str]]) -> None:
    assert lines_of_a_change(*large) <= 1.2 * lines_of_a_change(many(12), router(*many(12)))


def lines_of_a_change(entries: list[RouteEntry[str]], table: Router[str]) -> int:
    old, new = entries[4], entry("4", ["/new", "/new/*", "/u/:id/new"])
    lines = lines_of(lambda: change(table, [old], [new]))
    assert (find(table, "/new"), find(table, "/svc000004")) == ("4", None)
    change(table, [new], [old])
    return lines


def test_a_change_of_all_routes_is_done_at_once_all_the_same(large: tuple[list[RouteEntry[str]], Router[str]]) -> None:
    entries, table = large
    new = [replace(old, target="new " + old.id) for old in entries]
    apply = finish(table.prepare(entries, new))
    assert find(table, "/svc000004/x") == "4"
    assert lines_of(apply) < 500
    assert find(table, "/svc000004/x") == "new 4"
    change(table, new, entries)
