"""Where a plugin's call goes, by the name that it gives."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.callout.target import TargetError, TlsNode, find_target
from data_plane.config.snapshot import Node, Upstream
from tests.support.exchange import Nodes

NAMED = {"auth": Upstream("auth", Nodes("a.test")), "1.2.3.4:80": Upstream("odd", Nodes("b.test"))}


def target(name: bytes, scheme: str = "http", server_name: str = "", *, port_needed: bool = True) -> tuple[object, ...]:
    found = find_target(name, NAMED.get, scheme, server_name, port_needed=port_needed)
    node = found.upstream.picker.pick()
    assert isinstance(node, Node)
    extra = (node.server_name,) if isinstance(node, TlsNode) else ()
    return (
        found.upstream.name if found.upstream in NAMED.values() else "",
        node.host,
        node.port,
        found.tls,
        found.authority,
        *extra,
    )


@pytest.mark.parametrize(
    ("name", "scheme", "expected"),
    [
        (b"auth", "http", ("auth", "a.test", 80, False, b"")),
        (b"auth", "https", ("auth", "a.test", 80, False, b"")),
        (b"1.2.3.4:80", "http", ("odd", "b.test", 80, False, b"")),
        (b"h.test:81", "http", ("", "h.test", 81, False, b"h.test:81")),
        (b"h.test:80", "http", ("", "h.test", 80, False, b"h.test")),
        (b"[::1]:81", "http", ("", "::1", 81, False, b"[::1]:81")),
        (b"h.test:443", "https", ("", "h.test", 443, True, b"h.test", "h.test")),
        (b"h.test:81", "https", ("", "h.test", 81, True, b"h.test:81", "h.test")),
        (b"https://h.test", "http", ("", "h.test", 443, True, b"h.test", "h.test")),
        (b"http://h.test", "https", ("", "h.test", 80, False, b"h.test")),
        (b"grpcs://[::1]:9", "http", ("", "::1", 9, True, b"[::1]:9", "::1")),
    ],
)
def test_names_and_addresses(name: bytes, scheme: str, expected: tuple[object, ...]) -> None:
    assert target(name, scheme) == expected


def test_the_name_that_a_certificate_must_have_tells_connections_apart() -> None:
    one, two = (find_target(b"h.test:1", NAMED.get, "https", name).upstream.picker.pick() for name in ("one", "two"))
    assert one is not None
    assert two is not None
    assert one.authority != two.authority


def test_where_apisix_needs_no_port() -> None:
    assert target(b"h.test", port_needed=False) == ("", "h.test", 80, False, b"h.test")
    assert target(b"h.test", "https", port_needed=False) == ("", "h.test", 443, True, b"h.test", "h.test")


@pytest.mark.parametrize(
    "name", [b"", b"nobody", b"h.test:0", b"h.test:99999", b"h:1:2", b"ftp://h:1", b"h\xff:1", b"a b:1", b"://h:1"]
)
def test_what_is_neither(name: bytes) -> None:
    with pytest.raises(TargetError):
        target(name)


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_an_upstream_of_streams_cannot_be_called(scheme: Literal["tcp", "tls"]) -> None:
    with pytest.raises(TargetError, match=scheme):
        find_target(b"db", {"db": Upstream("db", Nodes("a"), scheme=scheme)}.get, "http")


@given(st.binary(max_size=40), st.sampled_from(["http", "https", "grpc"]), st.booleans())
def test_any_bytes_are_a_target_or_refused(name: bytes, scheme: str, port_needed: bool) -> None:
    with suppress(TargetError):
        assert find_target(name, NAMED.get, scheme, port_needed=port_needed).upstream.picker.pick()
