"""Raw requests by section of RFC 9110 and 9112: what is answered, and what reaches the upstream.

The law of every case: the upstream sees no more requests than the client sent, never `/smuggled`, and never a dirty head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.gateway import LiveGateway, ScriptedUpstream, live_gateway, route_to, upstream
from tests.support.http1_cases import CASES, Case, H, get
from tests.support.raw_http import RawClient, client
from tests.support.strict_upstream import assert_clean, record


@pytest.fixture(scope="module")
def recorder() -> Iterator[tuple[LiveGateway, ScriptedUpstream]]:
    with upstream(record) as server, live_gateway() as live:
        live.route(route_to(server.port))
        yield live, server


@pytest.mark.parametrize("split", ["whole", "bytewise"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(recorder: tuple[LiveGateway, ScriptedUpstream], case: Case, split: str) -> None:
    live, server = recorder
    if split == "bytewise" and len(case.data) > 600:
        split = "pieces"
    before = [len(side.requests) for side in server.connections]
    with client(live.port) as raw:
        send(raw, case.data, split)
        answers = [raw.response().status for _ in case.answers]
        assert tuple(answers) == case.answers
        if case.closes:
            assert raw.closes_within(2)
    before += [0] * (len(server.connections) - len(before))
    new = [request for side, seen in zip(server.connections, before, strict=True) for request in side.requests[seen:]]
    assert tuple(path for _, path, _ in new) == case.seen
    if case.body is not None:
        assert new[0][2] == case.body
    for head, _, _ in new:
        assert_clean(head)
    assert b"smuggled" not in server.received


def send(raw: RawClient, data: bytes, split: str) -> None:
    step = {"whole": len(data), "bytewise": 1, "pieces": 1000}[split]
    try:
        for start in range(0, len(data), step):
            raw.send(data[start : start + step])
    except ConnectionError:
        # Refused before everything was sent; the answer is there to be read.
        pass


IDENTITY = [
    (b"Connection: X-Foo\r\nX-Foo: 1\r\n", rb"x-foo"),
    (b"Connection: close, X-Foo\r\nX-Foo: 1\r\n", rb"x-foo"),
    (b"Keep-Alive: 300\r\n", rb"keep-alive"),
    (b"TE: trailers, gzip\r\n", rb"\nte:"),
    (b"Proxy-Connection: keep-alive\r\n", rb"proxy-connection"),
    (b"Proxy: http://evil\r\n", rb"evil"),
    (b"X-Real-IP: 6.6.6.6\r\n", rb"6\.6\.6\.6"),
    (b"X_Real_IP: 6.6.6.6\r\n", rb"6\.6\.6\.6"),
    (b"X_Forwarded_For: 6.6.6.6\r\n", rb"6\.6\.6\.6"),
    (b"X-Forwarded-Host: evil\r\n", rb"evil"),
    (b"X_Real_User: root\r\n", rb"x-real-user"),
    (b"Connection: X-Forwarded-For\r\nX-Forwarded-For: 6.6.6.6\r\n", rb"x-forwarded-for: 6\.6\.6\.6\r"),
]


@pytest.mark.parametrize(("fields", "absent"), IDENTITY, ids=[fields.decode() for fields, _ in IDENTITY])
def test_what_must_not_pass(recorder: tuple[LiveGateway, ScriptedUpstream], fields: bytes, absent: bytes) -> None:
    live, server = recorder
    with client(live.port) as raw:
        raw.send(get(H, fields, b"X-End: 1\r\n", target=b"/identity"))
        assert raw.response().status == 200
    head = [head for side in server.connections for head, path, _ in side.requests if path == b"/identity"][-1]
    assert re.search(absent, head.lower()) is None
    assert b"X-End: 1\r\n" in head
    assert b"127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n" in head
    assert_clean(head)


def test_forwarded_for_is_appended_to(recorder: tuple[LiveGateway, ScriptedUpstream]) -> None:
    live, server = recorder
    with client(live.port) as raw:
        raw.get(b"/xff", b"X-Forwarded-For: 1.1.1.1, 2.2.2.2", b"x-forwarded-for: 3.3.3.3")
    head = next(head for side in server.connections for head, path, _ in side.requests if path == b"/xff")
    assert b"\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1\r\n" in head
