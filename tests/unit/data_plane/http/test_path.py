from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.config.snapshot import Route, Snapshot
from data_plane.http.path import PathError, normalise
from tests.support.gateway import OneRoute
from tests.support.wire import Wire

NORMAL = [
    (b"/", b"/"),
    (b"/a/b", b"/a/b"),
    (b"//a///b//", b"/a/b/"),
    (b"/a/./b/.", b"/a/b/"),
    (b"/a/b/../c", b"/a/c"),
    (b"/a/..", b"/"),
    (b"/a/b/..", b"/a/"),
    (b"/%61%2D%7e", b"/a-~"),
    (b"/%2e%2E/", None),
    (b"/pub/%2e%2e/admin/x", b"/admin/x"),
    (b"/pub/%252e%252e/admin", b"/pub/%252e%252e/admin"),
    (b"/a%2fb", b"/a%2Fb"),
    (b"/caf%c3%a9", b"/caf%C3%A9"),
    (b"/a%20b", b"/a%20b"),
    (b"/.well-known/x", b"/.well-known/x"),
    (b"/...", b"/..."),
    (b"/a/;jsessionid=1", b"/a/;jsessionid=1"),
    (b"/a;v=1/b", b"/a;v=1/b"),
    (b"/a%2F", b"/a%2F"),
    (b"/..", None),
    (b"/a/../../b", None),
    (b"/pub%2f..%2fadmin", None),
    (b"/pub%2f../admin", None),
    (b"/pub/..%2fadmin", None),
    (b"/%2fadmin", None),
    (b"/pub/..;/admin", None),
    (b"/pub/..;x=1/admin", None),
    (b"/;/admin", None),
    (b"/pub\\..\\admin", None),
    (b"/a\\b", None),
    (b"/pub%5c..%5cadmin", None),
    (b"/a%00", None),
    (b"/a%", None),
    (b"/a%2", None),
    (b"/a%zz", None),
]


@pytest.mark.parametrize(("path", "normal"), NORMAL, ids=[path.decode() for path, _ in NORMAL])
def test_normal_form(path: bytes, normal: bytes | None) -> None:
    if normal is None:
        with pytest.raises(PathError):
            normalise(path)
    else:
        assert normalise(path) == normal


class Seen(OneRoute):
    """A router that keeps the paths."""

    def match(self, method: bytes, host: bytes, path: bytes, *rest: object) -> Route:
        self.path = path
        return self.route


@pytest.mark.parametrize(("path", "normal"), NORMAL, ids=[path.decode() for path, _ in NORMAL])
def test_router_plugins_and_upstream_see_one_path(path: bytes, normal: bytes | None) -> None:
    wire = Wire(lambda request: b"", plugins=True)
    router = Seen(wire.route)
    wire.gateway.snapshot = Snapshot(1, router, {})
    wire.send(b"GET " + path + b"?q=/../%2e HTTP/1.1\r\nHost: t\r\n\r\n")
    if normal is None:
        assert wire.answered.startswith(b"HTTP/1.1 400 ")
        assert wire.forwarded == []
        return
    line = b"GET " + normal + b"?q=/../%2e HTTP/1.1\r\n"
    assert router.path == normal
    assert wire.heads[0].startswith(line)
    assert wire.forwarded[0].startswith(line)


PIECES = st.sampled_from(
    [b"/", b"a", b"admin", b".", b"..", b"%2e", b"%2F", b"%2f", b"%5c", b";", b";x", b"%25", b"%61", b"\\", b"//", b"%41"]
)


@given(st.lists(PIECES, max_size=10).map(lambda pieces: b"/" + b"".join(pieces)))
def test_no_reading_of_a_normal_form_leads_elsewhere(path: bytes) -> None:
    try:
        normal = normalise(path)
    except PathError:
        return
    assert normalise(normal) == normal
    decoded = unquote_to_bytes(normal).replace(b"\\", b"/")
    # A receiver that decodes, and one that strips parameters from segments as well.
    for reading in (decoded, b"/".join(segment.partition(b";")[0] for segment in decoded.split(b"/"))):
        segments = reading.split(b"/")[1:]
        assert not {b".", b".."} & set(segments)
        assert b"" not in segments[:-1]
