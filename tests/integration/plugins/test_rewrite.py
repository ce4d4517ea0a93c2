"""plugins/go/rewrite: headers and bodies, in both directions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shared.proxy_wasm import Headers, Plugin, Refused, Response
from tests.support.examples import load

CONF: dict[str, object] = {
    "request": {
        "remove": ["X-Secret"],
        "set": {"X-Tier": "gold", "Host": "inner.test"},
        "add": {"X-Via": "waspgate"},
        "replace": [{"find": "colour", "with": "color"}, {"find": "gray", "with": ""}],
    },
    "response": {
        "remove": ["Server"],
        "replace": [{"find": "http://inner.test", "with": "https://example.com"}],
        "content_types": ["text/", "application/json"],
    },
}
HTML = Headers([("content-type", "Text/HTML; charset=utf-8"), ("server", "up")])


@pytest.fixture(scope="module")
def plugin() -> Iterator[Plugin]:
    with load("go-rewrite", CONF) as plugin:
        yield plugin


def test_a_request(plugin: Plugin) -> None:
    headers = [("x-secret", "1"), ("X-Secret", "2"), ("x-tier", "lead"), ("x-via", "client"), ("accept", "*/*")]
    stream = plugin.request("POST", "/", headers=headers, chunks=[b"a col", b"our and a gr", b"ay colour"])
    assert stream.forwarded.authority == "inner.test"
    assert stream.forwarded.headers.all("x-via") == ["client", "waspgate"]
    assert stream.forwarded.headers.all("x-tier") == ["gold"]
    assert "x-secret" not in stream.forwarded.headers
    assert stream.forwarded.headers["accept"] == "*/*"
    assert stream.forwarded.body == b"a color and a  color"
    assert stream.forwarded.complete
    assert plugin.request(headers={"x-secret": "1"}).forwarded.headers.get("x-tier") == "gold"


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (Response(200, HTML, chunks=(b"<a href='http://inn", b"er.test/x'>")), b"<a href='https://example.com/x'>"),
        (Response(404, HTML, b"http://inner.test"), b"https://example.com"),
        (Response(200, Headers({"content-type": "image/png"}), b"http://inner.test"), b"http://inner.test"),
        (Response(200, Headers({"content-encoding": "gzip", **dict(HTML)}), b"http://inner.test"), b"http://inner.test"),
        (Response(200, Headers({"content-encoding": "identity", **dict(HTML)}), b"http://inner.test"), b"https://example.com"),
        (Response(200, Headers(), b"http://inner.test"), b"http://inner.test"),
        (Response(200, HTML, b"\xff\x00http://inner.test\xfe"), b"\xff\x00https://example.com\xfe"),
        (Response(200, HTML), b""),
    ],
)
def test_a_response(plugin: Plugin, response: Response, body: bytes) -> None:
    stream = plugin.request(response=response)
    assert (stream.response.status, stream.response.body) == (response.status, body)
    assert stream.response.complete
    assert "server" not in stream.response.headers


def test_a_long_body(plugin: Plugin) -> None:
    """As much as may be held, and nothing of it stays in the plugin."""
    chunks = (b"http://inner.test " * 1000,) * 50
    for _ in range(5):
        stream = plugin.request(response=Response(200, HTML, chunks=chunks))
        assert stream.response.body == b"https://example.com " * 50_000


def test_a_body_that_would_become_too_long_stays_as_it_was(plugin: Plugin) -> None:
    """The limit is 1 MiB, before and after."""
    body = b"http://inner.test " * 58_000
    stream = plugin.request(response=Response(200, HTML, body))
    assert stream.response.body == body
    assert plugin.messages[-1] == "rewrite: a body of 1044000 bytes stays as it was: internal failure"


def test_without_rules_nothing_changes(plugin: Plugin) -> None:
    idle = plugin.sibling("{}")
    stream = idle.request("POST", "/", body="colour", response=Response(200, HTML, b"http://inner.test"))
    assert stream.forwarded.body == b"colour"
    assert (stream.response.body, stream.response.headers) == (b"http://inner.test", HTML)
    idle.close()


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"request": {"remove": ["x y"]}}, "not a header name: x y"),
        ({"request": {"set": {"": "a"}}}, "not a header name: "),
        ({"response": {"set": {"a": "b\r\nc"}}}, "one line of text is expected for a"),
        ({"response": {"set": {"Content-Length": "1"}}}, "Content-Length is the gateway's"),
        ({"response": {"replace": [{"find": "", "with": "x"}]}}, "a text is expected for find"),
        ({"reponse": {}}, 'json: unknown field "reponse"'),
    ],
)
def test_a_bad_configuration_is_refused(plugin: Plugin, conf: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        plugin.sibling(json.dumps(conf))
    assert refused.value.logs[-1].message == f"rewrite: bad configuration: {reason}"
