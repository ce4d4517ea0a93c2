"""gzip and brotli: which responses are compressed for whom, what their heads say, and what streams through."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import brotli
import pytest

from shared.plugin.builtin.compression import accepts
from tests.support.native import Native, refusal

HTML = "Content-Type: text/html; charset=utf-8"
PAGE = b"<p>hello</p>" * 20
GZIP: dict[str, Any] = {"gzip": {}}
BROTLI: dict[str, Any] = {"brotli": {}}


def page(native: Native, accepted: str | None = "gzip, br", *fields: str, **options: Any) -> Any:  # noqa: ANN401
    """What a client that sends this Accept-Encoding gets."""
    asked = [] if accepted is None else [f"Accept-Encoding: {accepted}"]
    request = {key: options.pop(key) for key in ("method", "minor") if key in options}
    assert native.request("/p", *asked, *options.pop("asked", ()), **request) is not None
    return native.response(options.pop("body", PAGE), fields=(*fields, options.pop("kind", HTML)), **options)


def test_gzip_compresses() -> None:
    answer = page(Native(GZIP))
    assert answer["content-encoding"] == "gzip"
    assert int(answer["content-length"]) == len(answer.body) < len(PAGE)
    assert gzip.decompress(answer.body) == PAGE


def test_brotli_compresses() -> None:
    answer = page(Native(BROTLI))
    assert answer["content-encoding"] == "br"
    assert brotli.decompress(answer.body) == PAGE


def test_brotli_goes_before_gzip_and_none_does_it_twice() -> None:
    both = Native({**GZIP, **BROTLI})
    assert brotli.decompress(page(both).body) == PAGE
    assert gzip.decompress(page(both, "gzip").body) == PAGE


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"accepted": None}, "the client takes nothing"),
        ({"accepted": "identity, br;q=1"}, "it takes another coding"),
        ({"accepted": "gzip;q=0"}, "it refuses the coding"),
        ({"kind": "Content-Type: image/png"}, "the type is not listed"),
        ({"kind": "X-No: type"}, "there is no type"),
        ({"body": b"short"}, "it declares too short a body"),
        ({"status": 206}, "it is a part"),
        ({"status": 204, "body": b""}, "there is no body"),
        ({"status": 304, "body": b""}, "there is no body"),
        ({"method": "HEAD", "body": b""}, "there is no body"),
        ({"minor": 0}, "HTTP/1.0"),
        ({"fields": ("Content-Encoding: br",)}, "it is coded already"),
        ({"fields": ("Cache-Control: public, No-Transform",)}, "the upstream forbids it"),
        ({"asked": ("Cache-Control: no-transform",)}, "the client forbids it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_left_alone(options: dict[str, Any], why: str) -> None:
    fields = options.pop("fields", ())
    answer = page(Native(GZIP), options.pop("accepted", "gzip"), *fields, **options)
    assert answer["content-encoding"] in (None, "br"), why
    assert answer.body in (PAGE, b"short", b"")


def test_the_head_says_only_what_still_holds() -> None:
    plain = ("Accept-Ranges: bytes", "Content-MD5: x", "Digest: sha-256=x", "X-Other: y")
    answer = page(Native(GZIP), "gzip", 'ETag: "v1"', *plain)
    assert answer["etag"] == 'W/"v1"'
    assert [answer[name] for name in ("accept-ranges", "content-md5", "digest", "x-other")] == [None, None, None, "y"]
    assert page(Native(GZIP), "gzip", 'ETag: W/"v1"')["etag"] == 'W/"v1"'


@pytest.mark.parametrize(
    ("accepted", "there", "then"),
    [("gzip", (), ["Accept-Encoding"]), (None, (), ["Accept-Encoding"]), ("gzip", ("Vary: X, accept-encoding",), None)],
    ids=["compressed", "not compressed", "named already"],
)
def test_vary_says_that_it_depends(accepted: str | None, there: tuple[str, ...], then: list[str] | None) -> None:
    answer = page(Native({"gzip": {"vary": True}}), accepted, *there)
    assert answer.all("vary") == (then or ["X, accept-encoding"])
    assert page(Native(GZIP), accepted)["vary"] is None


def test_all_types_and_http_1_0_when_they_are_asked_for() -> None:
    wide = Native({"gzip": {"types": "*", "http_version": 1.0, "comp_level": 9}})
    assert gzip.decompress(page(wide, "gzip", kind="Content-Type: a/b", minor=0).body) == PAGE


@pytest.mark.parametrize(("plugin", "coding"), [("gzip", "gzip"), ("brotli", "br")])
def test_every_event_of_a_stream_leaves_when_it_comes(plugin: str, coding: str) -> None:
    native = Native({plugin: {"types": ["text/event-stream"]}})
    native.request("/events", f"Accept-Encoding: {coding}")
    read = zlib.decompressobj(31).decompress if coding == "gzip" else brotli.Decompressor().process
    events = [b"data: %d\n\n" % number for number in range(4)]
    native.response(events[0], *events[1:], b"", fields=("Content-Type: text/event-stream",))
    head, *chunks = native.recorded.client
    pieces = [head.partition(b"\r\n\r\n")[2], *chunks]
    assert [read(piece.split(b"\r\n", 1)[1][:-2]) for piece in pieces[:4]] == events


def test_a_body_of_unknown_length_is_compressed_however_short() -> None:
    native = Native(GZIP)
    native.request("/p", "Accept-Encoding: gzip")
    answer = native.response(b"hi", fields=(HTML,), chunked=True)
    assert answer["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("field", "takes"),
    [
        *(("gzip", True), ("GZIP;q=0.5", True), ("*", True), ("*;q=0", False), ("br, *;q=0.1", True)),
        *(("gzip;q=0, *", False), ("gzip;q=x", False), ("", False), ("gzipped", False), ("deflate , gzip ", True)),
    ],
)
def test_what_accept_encoding_means(field: str, takes: bool) -> None:
    assert accepts(field, "gzip") is takes


@pytest.mark.parametrize(
    ("plugin", "conf", "says"),
    [
        ("gzip", {"types": []}, "types"),
        ("gzip", {"types": "text/html"}, "types"),
        ("gzip", {"min_length": 0}, "min_length"),
        ("gzip", {"comp_level": 10}, "comp_level"),
        ("gzip", {"http_version": 2}, "expected 1.0 or 1.1, got 2"),
        ("gzip", {"vary": "yes"}, "vary"),
        ("gzip", {"buffers": {"number": 0}}, "number"),
        ("gzip", {"level": 1}, "level"),
        ("brotli", {"comp_level": 12}, "comp_level"),
        ("brotli", {"mode": 3}, "mode"),
        ("brotli", {"lgwin": 9}, "lgwin"),
        ("brotli", {"lgblock": 3}, "expected 0 or at least 16, got 3"),
    ],
)
def test_wrong_configurations_are_refused(plugin: str, conf: dict[str, Any], says: str) -> None:
    assert says in refusal(plugin, conf)


def test_brotli_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.plugin.builtin.brotli.brotli", None)
    assert "pip install 'waspgate[brotli]'" in refusal("brotli", {})
