"""Host patterns: what is read from a `host`, and what is refused with which reason."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.http.authority import host_of
from shared.host_pattern import HostPattern, parse_host, parse_hosts


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("foo.com", HostPattern(b"foo.com", wildcard=False)),
        ("FOO.Com", HostPattern(b"foo.com", wildcard=False)),
        ("foo.com.", HostPattern(b"foo.com", wildcard=False)),
        ("*.foo.com", HostPattern(b".foo.com", wildcard=True)),
        ("*foo.com.", HostPattern(b"foo.com", wildcard=True)),
        ("*", HostPattern(b"", wildcard=True)),
        ("127.0.0.1", HostPattern(b"127.0.0.1", wildcard=False)),
        ("[::1]", HostPattern(b"[::1]", wildcard=False)),
        ("[::FFFF:1.2.3.4]", HostPattern(b"[::ffff:1.2.3.4]", wildcard=False)),
        ("a_b-c", HostPattern(b"a_b-c", wildcard=False)),
    ],
)
def test_hosts(host: str, pattern: HostPattern) -> None:
    assert parse_host(host) == pattern


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "invalid host"),
        ("a.*.com", "invalid host"),
        ("**", "invalid host"),
        ("foo.com:80", "leave it out"),
        ("[::1]:", "leave it out"),
        ("a b", "invalid host"),
        ("foo/bar", "invalid host"),
        ("é.com", "invalid host"),
        ("\u212a.com", "invalid host"),
        ("[::1", "invalid host"),
        ("[::1::2]", "invalid host"),
        ("*[::1]", "invalid host"),
        ("a..com", "invalid host"),
        (".com", "invalid host"),
        (".", "invalid host"),
        ("*.", "invalid host"),
        ("*..com", "invalid host"),
        ("a" * 256, "longer than 255"),
    ],
)
def test_refused_hosts(host: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_host(host)


def test_two_spellings_count_once() -> None:
    assert len(parse_hosts(["a.com", "A.com", "a.com."])) == 1


@given(st.text(max_size=20) | st.text("aB.-*[]:1", max_size=12))
def test_an_accepted_name_is_a_host_that_the_listener_takes_and_reads_likewise(host: str) -> None:
    with suppress(ValueError):
        pattern = parse_host(host)
        example = host if not pattern.wildcard else "x" + host.removeprefix("*")
        assert host_of(example.encode()).endswith(pattern.name)
        assert pattern.wildcard or host_of(example.encode()) == pattern.name
