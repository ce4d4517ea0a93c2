"""Which stream route takes a connection."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import permutations

import pytest

from data_plane.routing.stream_router import StreamConditions, StreamEntry, StreamRouter
from shared.host_pattern import parse_host


def conditions(sni: str = "", port: int = 0, server: str = "", remote: str = "") -> StreamConditions:
    return StreamConditions(
        parse_host(sni) if sni else None,
        port or None,
        ip_network(server) if server else None,
        ip_network(remote) if remote else None,
    )


def router(*wanted: StreamConditions) -> StreamRouter[StreamConditions]:
    return StreamRouter(StreamEntry(str(number), item, item) for number, item in enumerate(wanted))


@pytest.mark.parametrize(
    ("wanted", "remote", "server", "port", "sni", "taken"),
    [
        (conditions(), "192.0.2.1", "10.0.0.1", 9100, b"", True),
        (conditions(), "192.0.2.1", "10.0.0.1", 9100, b"any.test", True),
        (conditions(port=9100), "192.0.2.1", "10.0.0.1", 9100, b"", True),
        (conditions(port=9101), "192.0.2.1", "10.0.0.1", 9100, b"", False),
        (conditions(remote="192.0.2.0/24"), "192.0.2.255", "10.0.0.1", 1, b"", True),
        (conditions(remote="192.0.2.0/24"), "192.0.3.0", "10.0.0.1", 1, b"", False),
        (conditions(remote="192.0.2.1"), "192.0.2.1", "10.0.0.1", 1, b"", True),
        (conditions(remote="192.0.2.1"), "::ffff:192.0.2.1", "::ffff:10.0.0.1", 1, b"", True),
        (conditions(remote="2001:db8::/32"), "2001:db8::1", "::1", 1, b"", True),
        (conditions(remote="2001:db8::/32"), "192.0.2.1", "10.0.0.1", 1, b"", False),
        (conditions(remote="fe80::/10"), "fe80::1%eth0", "fe80::2%eth0", 1, b"", True),
        (conditions(server="10.0.0.1"), "192.0.2.1", "10.0.0.1", 1, b"", True),
        (conditions(server="10.0.0.2"), "192.0.2.1", "10.0.0.1", 1, b"", False),
        (conditions("a.test"), "192.0.2.1", "10.0.0.1", 1, b"a.test", True),
        (conditions("A.test"), "192.0.2.1", "10.0.0.1", 1, b"a.test", True),
        (conditions("a.test"), "192.0.2.1", "10.0.0.1", 1, b"b.a.test", False),
        (conditions("a.test"), "192.0.2.1", "10.0.0.1", 1, b"", False),
        (conditions("*.a.test"), "192.0.2.1", "10.0.0.1", 1, b"c.b.a.test", True),
        (conditions("*.a.test"), "192.0.2.1", "10.0.0.1", 1, b"a.test", False),
        (conditions("*"), "192.0.2.1", "10.0.0.1", 1, b"a.test", True),
        (conditions("*"), "192.0.2.1", "10.0.0.1", 1, b"", False),
    ],
)
def test_conditions(wanted: StreamConditions, remote: str, server: str, port: int, sni: bytes, taken: bool) -> None:
    assert (router(wanted).match(remote, server, port, sni) is wanted) is taken


MOST_SPECIFIC_FIRST = [
    conditions("db.a.test"),
    conditions("*.a.test", port=9100),
    conditions("*.a.test"),
    conditions("*.test", port=9100, remote="192.0.2.1"),
    conditions("*"),
    conditions(port=9100, server="10.0.0.1", remote="192.0.2.0/24"),
    conditions(port=9100, server="10.0.0.1"),
    conditions(port=9100, server="10.0.0.0/8", remote="192.0.2.1"),
    conditions(port=9100),
    conditions(server="10.0.0.1"),
    conditions(remote="192.0.2.1"),
    conditions(remote="192.0.2.0/24"),
    conditions(),
]


def test_the_most_specific_takes_it() -> None:
    left = MOST_SPECIFIC_FIRST[::-1]
    for expected in MOST_SPECIFIC_FIRST:
        assert router(*left).match("192.0.2.1", "10.0.0.1", 9100, b"db.a.test") is expected
        left.remove(expected)
    assert router().match("192.0.2.1", "10.0.0.1", 9100, b"") is None


def test_the_order_of_entries_means_nothing() -> None:
    for some in permutations(MOST_SPECIFIC_FIRST[5:9]):
        assert router(*some).match("192.0.2.1", "10.0.0.1", 9100, b"") is MOST_SPECIFIC_FIRST[5]


def test_equals_go_by_id() -> None:
    entries = [StreamEntry(name, conditions(port=1), name) for name in ("b", "a", "c")]
    assert StreamRouter(entries).match("192.0.2.1", "10.0.0.1", 1, b"") == "a"
