"""The trace key's field goes to no upstream, and is still there to be looked at."""

from __future__ import annotations

import pytest

from data_plane.http.head import parse_request


@pytest.mark.parametrize("name", [b"X-Waspgate-Trace", b"x-waspgate-trace", b"X_WASPGATE_TRACE"])
@pytest.mark.parametrize("line", [b"GET /p HTTP/1.1", b"GET /p HTTP/1.0", b"GET /%7ep?q HTTP/1.1", b"GET http://h/p HTTP/1.1"])
def test_the_field_is_taken_out(name: bytes, line: bytes) -> None:
    head = b"%b\r\nHost: h\r\nA: 1\r\n%b: secret\r\nB: 2\r\n" % (line, name)
    request = parse_request(head)
    assert b"secret" not in request.open
    assert b"\r\nA: 1\r\nB: 2" in request.open
    assert getattr(request.fields, "trace", None) == (None if b"_" in name else b"secret")


@pytest.mark.parametrize("name", [b"X-Waspgate-Traced", b"X-Waspgate", b"My-X-Waspgate-Trace"])
def test_other_fields_stay(name: bytes) -> None:
    assert b"\r\n%b: 1\r\n" % name in parse_request(b"GET /p HTTP/1.1\r\nHost: h\r\n%b: 1\r\n" % name).open + b"\r\n"


def test_a_request_without_it_has_no_key() -> None:
    assert not hasattr(parse_request(b"GET /p HTTP/1.1\r\nHost: h\r\nConnection: close\r\n").fields, "trace")
