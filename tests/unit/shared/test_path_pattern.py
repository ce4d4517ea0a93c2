"""Path patterns: what is read from a `uri`, and what is refused with which reason."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.path_pattern import parse_path
from shared.request_path import normalise


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
        ("/a|b", b"/a%7Cb"),
        ("/.well-known/..x/...", b"/.well-known/..x/..."),
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
        ("/a/*rest", b"/a/", b"", 3),
        ("/u/:id/*rest", b"/u/", b"/", 4),
        ("/a/*/c", b"/a/", b"/c", 5),
        ("/a/*name/c/*", b"/a/", b"", 6),
        ("/*/b*", b"/", b"", 3),
        ("/*/:id/c", b"/", b"/c", 4),
        ("/:id/*/c.d", b"/", b"/c.d", 6),
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
        ("/a*b", "within a segment"),
        ("/a*/b", "within a segment"),
        ("/static/*.jpg", "more than a name"),
        ("/**", "more than a name"),
        ("/*a/*a", "same parameter name"),
        ("/*a/:a", "same parameter name"),
        ("/u/:id*", "right behind a parameter"),
        ("/u/:id/:x*", "right behind a parameter"),
        ("/u/:", "needs a parameter's name"),
        ("/:*", "needs a parameter's name"),
        ("/:a/b/:a", "same parameter name"),
        ("/a/..;/b", "can match no request"),
        ("/a/%2F*", "can match no request"),
        ("/100%", "two hex digits"),
        ("/%4", "two hex digits"),
        ("/a%00", "%00"),
        ("/a\0", "NUL"),
        ("/a?b=c", "query"),
        ("/a#b", "query"),
    ],
)
def test_refused_paths(uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_path(uri)
    assert repr(uri) in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "path", "captured"),
    [
        ("/u/:id/*", "/u/7/a/b", {"id": "7", "ext": "a/b"}),
        ("/a/p*", "/a/pq/r", {"ext": "q/r"}),
        ("/a/*rest", "/a/b/c", {"rest": "b/c"}),
        ("/:x/*rest", "/a/", {"x": "a", "rest": ""}),
        ("/a/*/c", "/a/b/x/c", {"ext": "b/x"}),
        ("/a/*one/c/*", "/a/1/c/2/c/3", {"one": "1/c/2", "ext": "3"}),
        ("/*/:id/c*", "/a/b/7/c/d", {"ext": "/d", "id": "7"}),
    ],
)
def test_what_a_path_has_in_the_place_of_parameters_and_stars(uri: str, path: str, captured: dict[str, str]) -> None:
    expected = {name.encode(): text.encode() for name, text in captured.items()}
    assert parse_path(uri).captures(path.encode()) == expected


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        parse_path(text)


@given(st.text(st.sampled_from("/:ab*.é%2f "), max_size=20).map("/".__add__))
def test_a_normalised_pattern_is_its_own_normal_form(uri: str) -> None:
    try:
        pattern = parse_path(uri)
    except ValueError:
        return
    assert parse_path(pattern.text.decode("ascii")) == pattern


@pytest.mark.parametrize("path", ["/a|b", '/a"b', "/<a>", "/a^{b}`"])
def test_a_request_and_a_pattern_may_both_be_written_without_escapes(path: str) -> None:
    assert parse_path(path).text == normalise(path.encode())


@given(st.text(st.sampled_from("/:ab.;é%25fc~ &|\\"), max_size=20).map("/".__add__))
def test_an_exact_pattern_is_written_as_the_listener_writes_paths(uri: str) -> None:
    """So a request whose path is the pattern's own text has that very text after the listener has read it."""
    try:
        pattern = parse_path(uri)
    except ValueError:
        return
    assert normalise(pattern.text) == pattern.text
