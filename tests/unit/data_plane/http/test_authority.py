from __future__ import annotations

import pytest

from data_plane.http.authority import AuthorityError, host_of, same_authority

GOOD = [
    (b"t", b"t"),
    (b"T.Example.COM", b"t.example.com"),
    (b"t.example.", b"t.example"),
    (b"my_service:80", b"my_service"),
    (b"127.0.0.1:65535", b"127.0.0.1"),
    (b"t:0", b"t"),
    (b"[::1]", b"[::1]"),
    (b"[2001:DB8::1]:443", b"[2001:db8::1]"),
]
BAD = [
    b"",
    b"t..",
    b".",
    b":80",
    b"t:",
    b"t:65536",
    b"t:8a",
    b"t:+1",
    b"a b",
    b"a,b",
    b"a/b",
    b"u@t",
    b"[::1",
    b"[::g]",
    b"[1]",
    b"::1",
    b"a..b",
]
BAD += [b".", b".a", b"a%41", b"t:080808", b"t\x00", "\u00e9".encode(), b"a" * 256]


@pytest.mark.parametrize(("authority", "host"), GOOD)
def test_hosts(authority: bytes, host: bytes) -> None:
    assert host_of(authority) == host


@pytest.mark.parametrize("authority", BAD)
def test_what_is_no_host(authority: bytes) -> None:
    with pytest.raises(AuthorityError):
        host_of(authority)


def test_the_default_port_is_implied() -> None:
    assert same_authority(b"t", b"T:80")
    assert not same_authority(b"t", b"t:81")
    assert not same_authority(b"t", b"u")
