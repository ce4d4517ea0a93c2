"""Sets of networks against the standard library's idea of each network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.expression.addresses import AddressSet


@pytest.mark.parametrize(
    ("networks", "address", "expected"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.1.2.3/8"], "10.0.0.1", True),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "10.9.9.9", True),
        (["0.0.0.0/0"], "::1", False),
        (["::/0"], "127.0.0.1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["192.0.2.1", "192.0.2.9"], "192.0.2.9", True),
        ([], "192.0.2.9", False),
        (["::/0"], "", False),
        (["::/0"], "nonsense", False),
    ],
)
def test_an_address_is_in_the_set_or_not(networks: list[str], address: str, expected: bool) -> None:
    assert (address in AddressSet(networks)) == expected


def test_equal_sets_are_equal() -> None:
    one, other = AddressSet(["10.0.0.0/8", "::1"]), AddressSet(["::1", "10.9.0.0/8"])
    assert (one == other, hash(one) == hash(other), one == AddressSet(["::1"])) == (True, True, False)


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=6),
    st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)), max_size=6),
    st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address),
)
def test_the_set_is_the_union_of_its_networks(
    four: list[tuple[int, int]], six: list[tuple[int, int]], address: IPv4Address | IPv6Address
) -> None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    texts = [f"{IPv4Address(number)}/{length}" for number, length in four]
    texts += [f"{IPv6Address(number)}/{length}" for number, length in six if number >> 32 != 0xFFFF]
    assert (str(address) in AddressSet(texts)) == any(address in ip_network(text, strict=False) for text in texts)
