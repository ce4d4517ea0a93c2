"""Routes that ask for more than method, host and path: where they stand in the order, against a naive oracle too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.routing.requirement import Requirement
from data_plane.routing.router import Conditions, RouteEntry, Router
from data_plane.routing.steps import finish
from shared.expression.addresses import AddressSet
from shared.expression.language import compile_expression
from shared.expression.request import BodyNeeded, RequestVariables
from shared.host_pattern import parse_hosts
from shared.path_pattern import parse_paths

BY_REQUIREMENT = "?"


def entry(
    id: str,
    uri: str,
    rules: Sequence[object] | None = None,
    *,
    networks: Sequence[str] = (),
    hosts: Sequence[str] = (),
    methods: Sequence[str] | None = None,
    priority: int = 0,
) -> RouteEntry[str]:
    allowed = None if methods is None else frozenset(method.encode() for method in methods)
    expression = None if rules is None else compile_expression(rules, routed=False)
    addresses = AddressSet(networks) if networks else None
    requirement = Requirement(addresses, expression) if addresses or expression else None
    return RouteEntry(id, Conditions(parse_hosts(hosts), parse_paths([uri]), allowed, priority, requirement), id)


def router(entries: Sequence[RouteEntry[str]]) -> Router[str]:
    return changed(Router(BY_REQUIREMENT), (), entries)


def changed(table: Router[str], removed: Sequence[RouteEntry[str]], added: Sequence[RouteEntry[str]]) -> Router[str]:
    finish(table.prepare(removed, added))()
    return table


def find(table: Router[str], target: str, host: str = "any.test", client: str = "192.0.2.1", method: str = "GET") -> str | None:
    """As an exchange asks."""
    path = target.partition("?")[0].encode()
    found = table.match(method.encode(), host.encode(), path)
    if found != BY_REQUIREMENT:
        return found
    head = b"%b %b HTTP/1.1\r\n" % (method.encode(), target.encode())
    return table.choose(RequestVariables(method.encode(), path, host.encode(), head, (client, 1), ("192.0.2.9", 80)))


A, B = [["arg_a", "1"]], [["arg_b", "1"]]


@pytest.mark.parametrize(
    ("entries", "target", "winner"),
    [
        ([entry("1", "/p", A)], "/p?a=1", "1"),
        ([entry("1", "/p", A)], "/p", None),
        # It falls through: to the next of the bucket, to shorter prefixes, to other shapes.
        ([entry("1", "/p", A), entry("2", "/p")], "/p", "2"),
        ([entry("1", "/p", A), entry("2", "/p")], "/p?a=1", "1"),
        ([entry("1", "/p", A), entry("2", "/p", priority=1)], "/p?a=1", "2"),
        ([entry("2", "/p", A), entry("1", "/p", B)], "/p?a=1&b=1", "1"),
        ([entry("1", "/p", A), entry("2", "/*")], "/p", "2"),
        ([entry("1", "/a/b/*", A), entry("2", "/a/*", B), entry("3", "/*")], "/a/b/c", "3"),
        ([entry("1", "/a/b/*", A), entry("2", "/a/*", B), entry("3", "/*")], "/a/b/c?b=1", "2"),
        ([entry("1", "/a/b/*", A), entry("2", "/a/*", B), entry("3", "/*")], "/a/b/c?b=1&a=1", "1"),
        ([entry("1", "/u/:id", A), entry("2", "/u/*")], "/u/7", "2"),
        ([entry("1", "/u/:id", A), entry("2", "/u/*", priority=1)], "/u/7?a=1", "2"),
        # Methods come first, exact paths win without being asked for more.
        ([entry("1", "/p", A, methods=["POST"]), entry("2", "/p")], "/p?a=1", "2"),
        ([entry("1", "/p"), entry("2", "/*", A, priority=9)], "/p?a=1", "1"),
        # Segments of the path.
        ([entry("1", "/u/:id/*", [["uri_param_id", "~~", "^[0-9]+$"]])], "/u/42/x", "1"),
        ([entry("1", "/u/:id/*", [["uri_param_id", "~~", "^[0-9]+$"]])], "/u/me/x", None),
        ([entry("1", "/u/:id/v*", [["uri_param_ext", "2/x"]])], "/u/me/v2/x", "1"),
        ([entry("1", "*", [["uri_param_ext", "/u"]])], "/u", "1"),
        ([entry("1", "/u", [["uri_param_id", None]])], "/u", "1"),
    ],
)
def test_a_requirement_is_looked_at_in_its_place(entries: list[RouteEntry[str]], target: str, winner: str | None) -> None:
    assert find(router(entries), target) == winner


@pytest.mark.parametrize(
    ("host", "winner"), [("a.test", "exact"), ("b.a.test", "wild"), ("test", None), ("other", "any")], ids=str
)
def test_hosts_come_before_requirements(host: str, winner: str | None) -> None:
    table = router(
        [
            entry("exact", "/p", A, hosts=["a.test"]),
            entry("wild", "/p", A, hosts=["*.test"]),
            entry("any", "/p", A),
        ]
    )
    assert find(table, "/p?a=1", host) == (winner or "any")
    assert find(table, "/p", host) is None


def test_a_host_whose_routes_ask_for_more_leaves_the_rest_to_others() -> None:
    table = router([entry("1", "/p", A, hosts=["a.test"]), entry("2", "/p", hosts=["*.test"]), entry("3", "/*")])
    assert [find(table, target, "a.test") for target in ("/p?a=1", "/p", "/q")] == ["1", "2", "3"]


@pytest.mark.parametrize(("client", "found"), [("10.1.1.1", "1"), ("::ffff:10.1.1.1", "1"), ("11.1.1.1", "2"), ("::1", "2")])
def test_clients_of_a_network(client: str, found: str) -> None:
    table = router([entry("1", "/p", networks=["10.0.0.0/8", "192.0.2.7"]), entry("2", "/p")])
    assert find(table, "/p", client=client) == found


def test_without_a_requirement_nothing_more_is_asked() -> None:
    table = router([entry("1", "/p", A), entry("2", "/q"), entry("3", "/r/*")])
    assert table.match(b"GET", b"h", b"/q") == "2"
    assert table.match(b"GET", b"h", b"/r/x") == "3"
    assert table.match(b"GET", b"h", b"/p") == BY_REQUIREMENT


def test_a_body_is_waited_for_only_if_it_decides() -> None:
    table = router([entry("1", "/p", [["arg_a", "1"], ["post_arg_x", "1"]]), entry("2", "/p")])
    request = RequestVariables(b"POST", b"/p", b"h", b"POST /p HTTP/1.1\r\n", ("::1", 1), ("::1", 2), length=3)
    assert table.choose(request) == "2"
    request.opened = b"POST /p?a=1 HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    request = RequestVariables(b"POST", b"/p", b"h", request.opened, ("::1", 1), ("::1", 2), length=3)
    with pytest.raises(BodyNeeded):
        table.choose(request)
    request.body = b"x=1"
    assert table.choose(request) == "1"


def test_a_route_comes_to_ask_and_ceases_to() -> None:
    plain, asking = entry("1", "/p"), entry("1", "/p", A)
    table = router([plain])
    changed(table, [plain], [asking])
    assert (find(table, "/p"), find(table, "/p?a=1")) == (None, "1")
    changed(table, [asking], [plain])
    assert table.match(b"GET", b"h", b"/p") == "1"


PATHS = ["/a", "/a/b", "/a/*", "/*", "/:x", "/a/:y"]
ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(PATHS),
        st.sampled_from([None, A, B]),
        st.sampled_from([(), ("a.test",), ("*.test",)]),
        st.integers(-1, 1),
    ),
    max_size=8,
)


@given(ENTRIES, st.sampled_from(["/a", "/a/b", "/a/c"]), st.sampled_from(["", "?a=1", "?b=1"]))
def test_it_is_as_if_routes_whose_requirement_fails_were_not_there(
    drawn: list[tuple[str, list[object] | None, tuple[str, ...], int]], path: str, query: str
) -> None:
    entries = [
        entry(str(index), uri, rules, hosts=hosts, priority=priority)
        for index, (uri, rules, hosts, priority) in enumerate(drawn)
    ]
    met = {None: True, "a": "a=1" in query, "b": "b=1" in query}
    left = [
        entry(str(index), uri, None, hosts=hosts, priority=priority)
        for index, (uri, rules, hosts, priority) in enumerate(drawn)
        if met[None if rules is None else "a" if rules is A else "b"]
    ]
    assert find(router(entries), path + query, "a.test") == find(router(left), path, "a.test")
