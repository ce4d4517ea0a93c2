"""Responses damaged at random: what the gateway passes on means to h11 and llhttp what it means to the client.

The law: the client gets one final response, the gateway's own 502 or the upstream's: then status, fields and body are those
that both readers see in what the upstream sent, and it is complete only if they say so.
"""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.test_requests import EXAMPLES
from tests.support.http1_readers import Fields, Message, read_responses_with_h11, read_responses_with_llhttp
from tests.support.wire import Wire

FIELDS = b"Connection: x-a\r\nX-A: 1\r\nx-b:2 \r\nKeep-Alive: 5\r\nX-C:\r\n"
SEEDS = [
    b"HTTP/1.1 200 OK\r\n%bContent-Length: 5\r\n\r\nhello" % FIELDS,
    b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n" % FIELDS,
    b"HTTP/1.1 200\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 404 Not Found\r\n\r\nno",
    b"HTTP/1.1 204 No Content\r\n%b\r\n" % FIELDS,
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
]
PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\0",
        b":",
        b";",
        b",",
        b"0",
        b"1",
        b"9",
        b"a",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 ",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"\r\n\r\n",
    ),
]
REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]
HOP_BY_HOP = re.compile(
    rb"connection|content[-_]length|transfer[-_]encoding|te|trailer|upgrade|keep[-_]alive|http2[-_]settings"
    rb"|proxy([-_](connection|authenticate|authorization))?"
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 2, 8]))
        put = draw(st.one_of(st.sampled_from(PIECES), st.just(b""), st.binary(min_size=1, max_size=1)))
        data = data[:start] + put + data[end:]
    return data


def end_to_end(message: Message) -> Fields:
    named = {token.strip(b" \t").lower() for value in message.values(b"connection") for token in value.split(b",")}
    fields = [(name, value) for name, value in message.fields if HOP_BY_HOP.fullmatch(name) is None and name not in named]
    # What the gateway says of an error of its upstream.
    said = (b"x-apisix-upstream-status", message.method)
    return [field for field in fields if field != said or not message.method.startswith(b"5")]


def passed_on(messages: list[Message], interim: bool) -> list[Message]:
    return [message for message in messages if int(message.method) >= 200 or (interim and message.method != b"100")]


def check(got: list[Message], sent: list[Message]) -> None:
    assert [message.method for message in got] == [message.method for message in sent[: len(got)]]
    for one, other in zip(got, sent, strict=False):
        assert end_to_end(one) == end_to_end(other)
        assert other.body.startswith(one.body)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), st.sampled_from(REQUESTS), st.lists(st.integers(0, 400), max_size=3), st.booleans(), st.booleans())
def test_what_is_passed_on_has_one_meaning(data: bytes, request: bytes, cuts: list[int], ended: bool, plugins: bool) -> None:
    wire = Wire(lambda request: b"", plugins=plugins)
    wire.send(request)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        wire.server.say(data[start:end])
    if ended:
        wire.server.end()
    assert len(wire.forwarded) == 1
    method = request.partition(b" ")[0]
    got = read_responses_with_h11(wire.answered, method, wire.is_over and not wire.was_reset)
    interim = b"HTTP/1.1" in request
    sent = passed_on(read_responses_with_h11(data, method, ended), interim)
    if got and (b"server", b"waspgate") in got[-1].fields:
        assert got.pop().method == b"502"
    check(got, sent)
    if got and int(got[-1].method) >= 200:
        assert not got[-1].complete or (sent[len(got) - 1].complete and got[-1].body == sent[len(got) - 1].body)
    if method == b"GET":
        check(got, passed_on(read_responses_with_llhttp(data), interim))
