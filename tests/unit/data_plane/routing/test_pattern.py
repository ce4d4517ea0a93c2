"""Patterns: what is read from a `uri` and a `host`, and what is refused with which reason."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.http.path import normalise
from data_plane.routing.pattern import HostPattern, parse_host, parse_path


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("/", b"/"),
        ("/foo/bar", b"/foo/bar"),
        ("/café", b"/caf%C3%A9"),
        ("/caf%c3%a9", b"/caf%C3%A9"),
        ("/%61%7e%2F", b"/a~%2F"),
        ("/a b", b"/a%20b"),
        ("/v1/things:batch", b"/v1/things:batch"),
        ("/a/:", b"/a/:"),
        ("/a;b=c/d", b"/a;b=c/d"),
        ("//a///b", b"/a/b"),
    ],
)
def test_exact_paths(uri: str, text: bytes) -> None:
    pattern = parse_path(uri)
    assert (pattern.text, pattern.stem, pattern.shape) == (text, text, None)


@pytest.mark.parametrize(
    ("uri", "stem", "key", "literal_bytes"),
    [
        ("/*", b"/", b"", 1),
        ("*", b"", b"", 0),
        ("/foo*", b"/foo", b"", 4),
        ("/u/:id", b"/u/", b"", 3),
        ("/u/:id/posts", b"/u/", b"posts", 9),
        ("/u/:id/posts/:n", b"/u/", b"posts", 10),
        ("/:a/b/:c/d", b"/", b"b/d", 6),
        ("/u/:id/*", b"/u/", b"/", 4),
        ("/u/:id/p*", b"/u/", b"/p", 5),
        ("/u/:id/x/p*", b"/u/", b"x/p", 7),
    ],
)
def test_patterns(uri: str, stem: bytes, key: bytes, literal_bytes: int) -> None:
    pattern = parse_path(uri)
    assert (pattern.stem, pattern.key, pattern.literal_bytes) == (stem, key, literal_bytes)
    assert pattern.shape is not None


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "does not begin with a slash"),
        ("foo", "does not begin with a slash"),
        ("/a/../b", "dot segment"),
        ("/%2e%2E/b", "dot segment"),
        ("/./", "dot segment"),
        ("/a*b", "before its end"),
        ("/*/b*", "before its end"),
        ("/u/:id*", "right behind a parameter"),
        ("/u/:id/:x*", "right behind a parameter"),
        ("/100%", "two hex digits"),
        ("/%4", "two hex digits"),
        ("/a%00", "%00"),
        ("/a\0", "%00"),
        ("/a?b=c", "query"),
        ("/a#b", "query"),
    ],
)
def test_refused_paths(uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_path(uri)
    assert repr(uri) in str(caught.value)


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("foo.com", HostPattern(b"foo.com", wildcard=False)),
        ("FOO.Com", HostPattern(b"foo.com", wildcard=False)),
        ("*.foo.com", HostPattern(b".foo.com", wildcard=True)),
        ("*foo.com", HostPattern(b"foo.com", wildcard=True)),
        ("*", HostPattern(b"", wildcard=True)),
        ("127.0.0.1", HostPattern(b"127.0.0.1", wildcard=False)),
        ("[::1]", HostPattern(b"[::1]", wildcard=False)),
        ("a_b-c", HostPattern(b"a_b-c", wildcard=False)),
    ],
)
def test_hosts(host: str, pattern: HostPattern) -> None:
    assert parse_host(host) == pattern


@pytest.mark.parametrize("host", ["", "a.*.com", "**", "foo.com:80", "a b", "[::1", "foo/bar", "é.com", "*[::1]"])
def test_refused_hosts(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        parse_host(host)


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    for parse in (parse_path, parse_host):
        with suppress(ValueError):
            parse(text)


@given(st.text(st.sampled_from("/:ab*.é%2f "), max_size=20).map("/".__add__))
def test_a_normalised_pattern_is_its_own_normal_form(uri: str) -> None:
    try:
        pattern = parse_path(uri)
    except ValueError:
        return
    assert parse_path(pattern.text.decode("ascii")) == pattern


@given(st.text(st.sampled_from("/:ab.;é%25fc~ &"), max_size=20).map("/".__add__))
def test_an_exact_pattern_is_written_as_the_listener_writes_paths(uri: str) -> None:
    try:
        pattern = parse_path(uri)
        path = normalise(pattern.text)
    except ValueError:
        return
    assert path == pattern.text
