"""What chash reads of a request, and what it takes when that is not there."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.balance.hash_key import hash_key
from shared.schema.balancing import HashOn, problem_with_key

HEAD = (
    b"GET /a/b?x=1&y=two&x=3&empty= HTTP/1.1\r\nHost: Example.COM:8080\r\nX-Tenant:  blue \r\nx-tenant: second\r\n"
    b'Cookie: a=1; sid="s 1"; b=2\r\nCookie: late=yes\r\nX-Consumer-Username: jack\r\nX_Low: under\r\n'
)


class Peer:
    client_address = ("10.1.2.3", 4567)
    local_address = ("10.9.9.9", 80)


ADDRESS = b"10.1.2.3"


@pytest.mark.parametrize(
    ("hash_on", "key", "value"),
    [
        ("vars", "uri", b"/a/b"),
        ("vars", "request_uri", b"/a/b?x=1&y=two&x=3&empty="),
        ("vars", "query_string", b"x=1&y=two&x=3&empty="),
        ("vars", "host", b"example.com"),
        ("vars", "hostname", os.uname().nodename.encode()),
        ("vars", "server_name", b"_"),
        ("vars", "server_addr", b"10.9.9.9"),
        ("vars", "remote_addr", ADDRESS),
        ("vars", "remote_port", b"4567"),
        ("vars", "arg_x", b"1"),
        ("vars", "arg_y", b"two"),
        ("vars", "arg_empty", ADDRESS),
        ("vars", "arg_nope", ADDRESS),
        ("header", "X-Tenant", b"blue"),
        ("header", "x_tenant", b"blue"),
        ("header", "X-Low", b"under"),
        ("header", "X-None", ADDRESS),
        ("cookie", "sid", b"s 1"),
        ("cookie", "late", b"yes"),
        ("cookie", "b", b"2"),
        ("cookie", "id", ADDRESS),
        ("consumer", "", b"jack"),
        ("vars_combinations", "$host$remote_addr", b"example.com10.1.2.3"),
        ("vars_combinations", "${arg_x}-$http_x_tenant-$cookie_b-$request_method-$consumer_name", b"1-blue-2-GET-jack"),
        ("vars_combinations", "$arg_nope", ADDRESS),
    ],
)
def test_values(hash_on: HashOn, key: str, value: bytes) -> None:
    assert hash_key(hash_on, key)(HEAD, Peer()) == value


def test_an_address_of_ipv6_as_host() -> None:
    assert hash_key("vars", "host")(b"GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n", Peer()) == b"[2001:db8::1]"
    assert hash_key("vars", "host")(b"GET / HTTP/1.1\r\nHost: [::1]\r\n", Peer()) == b"[::1]"


@pytest.mark.parametrize(
    ("hash_on", "key"),
    [("vars", "uri"), ("vars", "arg_x"), ("header", "x"), ("cookie", "x"), ("consumer", ""), ("vars", "host")],
)
def test_a_session_without_a_head_goes_by_its_client(hash_on: HashOn, key: str) -> None:
    assert hash_key(hash_on, key)(b"", Peer()) == ADDRESS


def test_a_call_of_a_plugin_has_no_client() -> None:
    assert hash_key("vars", "remote_addr")(HEAD, None) == b""
    assert hash_key("vars", "uri")(HEAD, None) == b"/a/b"


KEYS = st.lists(
    st.sampled_from(["$", "uri", "${arg_a}", "arg_", "http_", "cookie_", "a", "-", "$remote_addr", "{", "."]), max_size=4
)
HASH_ON: list[HashOn] = ["vars", "header", "cookie", "vars_combinations"]


@given(st.sampled_from(HASH_ON), KEYS.map("".join), st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")))
def test_whatever_is_accepted_reads_whatever_comes(hash_on: HashOn, key: str, data: bytes) -> None:
    if problem_with_key(hash_on, key) is None:
        head = b"GET /" + data.replace(b" ", b"") + b" HTTP/1.1\r\nCookie: " + data + b"\r\n" + data
        assert hash_key(hash_on, key)(head, Peer())
