"""Who the client is, by who speaks for it and what it says; and what upstreams are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.http.forwarded import Forwarding, TrustedForwarding, forwarding_for
from data_plane.http.head import NO_FIELDS, parse_request
from data_plane.http.trust import NOBODY, REAL_IP, Trust, parse_element
from shared.networks import parse_networks

PROXIES = Trust(parse_networks("10.0.0.0/8, fd00::/8, 192.0.2.7"))


class Client:
    client_address: tuple[str, int] = ("10.0.0.1", 40000)
    local_address: tuple[str, int] = ("10.0.0.2", 9443)


class Stranger(Client):
    client_address: tuple[str, int] = ("203.0.113.9", 40000)


FORWARDED: list[tuple[list[bytes], tuple[str, int]]] = [
    ([b"198.51.100.1"], ("198.51.100.1", 0)),
    ([b"198.51.100.1, 10.1.1.1"], ("198.51.100.1", 0)),
    # What stands before the last one that nobody vouches for was written by whom it names.
    ([b"8.8.8.8, 198.51.100.1, 10.1.1.1,192.0.2.7"], ("198.51.100.1", 0)),
    ([b"8.8.8.8", b"198.51.100.1", b"10.1.1.1"], ("198.51.100.1", 0)),
    ([b"10.3.3.3, 10.2.2.2"], ("10.3.3.3", 0)),
    ([b"198.51.100.1:5123"], ("198.51.100.1", 5123)),
    ([b"2001:db8::1"], ("2001:db8::1", 0)),
    ([b"[2001:db8::1]"], ("2001:db8::1", 0)),
    ([b"[2001:DB8::1]:443, fd00::5"], ("2001:db8::1", 443)),
    # Who writes nonsense is as far as anybody can see.
    ([b"unknown"], ("10.0.0.1", 0)),
    ([b"198.51.100.1, unknown, 10.9.9.9"], ("10.9.9.9", 0)),
    ([b""], ("10.0.0.1", 0)),
    ([b"198.51.100.1:99999"], ("10.0.0.1", 0)),
    ([b"198.51.100.1 8.8.8.8"], ("10.0.0.1", 0)),
]


@pytest.mark.parametrize(("values", "expected"), FORWARDED)
def test_the_client_is_the_last_address_that_is_not_trusted(values: list[bytes], expected: tuple[str, int]) -> None:
    assert PROXIES.client("10.0.0.1", values) == expected


@given(st.lists(st.ip_addresses(v=4), max_size=40), st.ip_addresses(v=4))
def test_nothing_before_a_stranger_matters(claims: list[object], stranger: object) -> None:
    if PROXIES.covers(str(stranger)):
        return
    chain = ", ".join(map(str, [*claims, stranger, "10.4.4.4"])).encode()
    assert PROXIES.client("10.0.0.1", [chain]) == (str(stranger), 0)


@given(st.binary(max_size=40))
def test_any_element_is_an_address_or_none(text: bytes) -> None:
    found = parse_element(text)
    assert found is None or 0 <= found[1] <= 65535


def test_a_mapped_address_is_the_one_that_it_maps() -> None:
    assert PROXIES.covers("::ffff:10.0.0.1")
    assert not PROXIES.covers("::ffff:11.0.0.1")
    assert not PROXIES.covers("")
    assert not NOBODY.covers("127.0.0.1")


@pytest.mark.parametrize("text", ["10.0.0.0/33", "ten", "10.0.0.1/x"])
def test_a_network_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=f"got '{text}'"):
        parse_networks(f"10.0.0.1, {text}")


def lines_of(forwarding: Forwarding, *fields: str) -> list[str]:
    """What the upstream gets, of a request to one.test."""
    head = "GET / HTTP/1.1\r\nHost: one.test\r\n" + "".join(f"{field}\r\n" for field in fields)
    request = parse_request(head.encode(), NO_FIELDS, forwarding.lines)
    return sorted(line for line in request.fields.lines.decode().split("\r\n") if line.startswith("X-"))


CLAIMS = ("X-Forwarded-For: 198.51.100.1", "X-Real-IP: 8.8.8.8", "X-Forwarded-Proto: http", "X-Forwarded-Host: who.test")


def test_a_stranger_only_adds_to_the_list() -> None:
    client = Stranger()
    assert lines_of(forwarding_for(client, "https", PROXIES), *CLAIMS, "X-Forwarded-Port: 1") == [
        "X-Forwarded-For: 198.51.100.1, 203.0.113.9",
        "X-Forwarded-Host: one.test",
        "X-Forwarded-Port: 9443",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 203.0.113.9",
    ]
    assert client.client_address == ("203.0.113.9", 40000)


def test_a_trusted_proxy_is_believed() -> None:
    client = Client()
    assert lines_of(forwarding_for(client, "https", PROXIES), *CLAIMS, "X-Forwarded-Port: 80") == [
        "X-Forwarded-For: 198.51.100.1, 10.0.0.1",
        "X-Forwarded-Host: who.test",
        "X-Forwarded-Port: 80",
        "X-Forwarded-Proto: http",
        "X-Real-IP: 198.51.100.1",
    ]
    assert client.client_address == ("198.51.100.1", 0)


def test_of_a_trusted_proxy_nonsense_is_replaced() -> None:
    odd = ("X-Forwarded-Proto: gopher", "X-Forwarded-Host: a b", "X-Forwarded-Port: 99999", "X-Forwarded-Port: 1")
    assert lines_of(forwarding_for(Client(), "https", PROXIES), *odd) == [
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: one.test",
        "X-Forwarded-Port: 9443",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 10.0.0.1",
    ]


def test_the_client_is_that_of_each_request() -> None:
    client = Client()
    forwarding = forwarding_for(client, "http", PROXIES)
    assert isinstance(forwarding, TrustedForwarding)
    lines_of(forwarding, "X-Forwarded-For: 198.51.100.1")
    lines_of(forwarding)
    assert client.client_address == ("10.0.0.1", 40000)


def test_the_client_may_stand_in_another_field() -> None:
    client = Client()
    lines_of(forwarding_for(client, "http", Trust(PROXIES.networks, REAL_IP)), *CLAIMS)
    assert client.client_address == ("8.8.8.8", 0)


def test_names_with_underscores_are_nobody_s_word() -> None:
    client = Client()
    found = lines_of(forwarding_for(client, "http", PROXIES), "X_Forwarded_For: 8.8.8.8", "X_Real_IP: 8.8.8.8")
    assert "8.8.8.8" not in "".join(found)
    assert client.client_address == ("10.0.0.1", 40000)
