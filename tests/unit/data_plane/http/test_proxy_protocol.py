"""Headers of the PROXY protocol, by the sections of its specification."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.http.proxy_protocol import NotAProxyHeader, ProxyHeader, parse_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 5000, 443)
V6 = bytes.fromhex("20010db800000000000000000000000120010db8000000000000000000000002") + struct.pack("!HH", 1, 65535)


def v2(block: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\r\n"
READ = {
    LINE: ProxyHeader(len(LINE), ("192.0.2.1", 5000), ("198.51.100.2", 443)),
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n": ProxyHeader(44, ("2001:db8::1", 1), ("2001:db8::2", 65535)),
    b"PROXY UNKNOWN\r\n": ProxyHeader(15),
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": ProxyHeader(35),
    v2(V4): ProxyHeader(28, ("192.0.2.1", 5000), ("198.51.100.2", 443)),
    v2(V4 + b"\x04\x00\x03abc"): ProxyHeader(34, ("192.0.2.1", 5000), ("198.51.100.2", 443)),
    v2(V6, family=0x21): ProxyHeader(52, ("2001:db8::1", 1), ("2001:db8::2", 65535)),
    v2(b"", command=0x20, family=0): ProxyHeader(16),
    v2(V4, command=0x20): ProxyHeader(28),
    v2(b"\0" * 216, family=0x31): ProxyHeader(232),
}
REFUSED = [
    b"GET / HTTP/1.1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 5000\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443 1\r\n",
    b"PROXY TCP4 192.0.2.1  198.51.100.2 5000 443\r\n",
    b"PROXY TCP4 2001:db8::1 198.51.100.2 5000 443\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 5000 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
    b"PROXY TCP4 192.0.2.\xff 198.51.100.2 1 443\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.2 5000 443\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.2 5000 443\r\n",
    b"PROXY " + b"x" * 101,
    v2(V4, command=0x11),
    v2(V4, command=0x22),
    v2(V4[:11]),
    v2(V6[:35], family=0x21),
    v2(b"\0" * 4097),
]


@pytest.mark.parametrize("data", READ, ids=repr)
def test_a_header_is_read_as_soon_as_it_is_complete_and_nothing_behind_it(data: bytes) -> None:
    for end in range(len(data)):
        assert parse_header(data[:end]) is None
    assert parse_header(data) == READ[data]
    assert parse_header(data + b"GET / HTTP/1.1\r\n") == READ[data]


@pytest.mark.parametrize("data", REFUSED, ids=lambda data: repr(data[:50]))
def test_refused(data: bytes) -> None:
    with pytest.raises(NotAProxyHeader):
        parse_header(data)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(SIGNATURE.__add__) | st.binary(max_size=110).map(b"PROXY ".__add__))
def test_anything_else_is_refused_or_waited_for(data: bytes) -> None:
    try:
        found = parse_header(data)
    except NotAProxyHeader:
        return
    assert found is None or found.size <= len(data)


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(0, 65535), st.integers(0, 65535))
def test_both_versions_say_the_same(one: object, two: object, port: int, other: int) -> None:
    line = parse_header(f"PROXY TCP6 {one} {two} {port} {other}\r\n".encode())
    packed = b"".join(address.packed for address in (one, two))  # type: ignore[attr-defined]
    binary = parse_header(v2(packed + struct.pack("!HH", port, other), family=0x21))
    assert line is not None
    assert binary is not None
    assert (line.source, line.destination) == (binary.source, binary.destination) == ((str(one), port), (str(two), other))
