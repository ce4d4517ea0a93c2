"""Requests damaged at random: what the gateway accepts, h11 and llhttp accept too, with one meaning, and so does the upstream.

The law: the n-th request that goes to an upstream is the n-th message of the client's stream, to each of the readers: the same
method, target, fields and body, and as complete. What the gateway sends is clean, whatever came.

`FUZZ_EXAMPLES=1000000 pytest tests/fuzz` takes longer and looks further.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.request_path import normalise
from tests.support.http1_cases import CASES
from tests.support.http1_readers import Fields, Message, read_with_h11, read_with_llhttp
from tests.support.strict_upstream import assert_clean
from tests.support.wire import Wire

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))

FIELDS = b"Host: t\r\nConnection: x-a, keep-alive\r\nX-A: 1\r\nx-b:2 \r\nX-Forwarded-For: 6.6.6.6\r\nTE: trailers\r\nX-C:\r\n"
# Long ones only cost time here.
SEEDS = [case.data for case in CASES if len(case.data) < 2000]
GOOD = [
    *(case.data for case in CASES if case.seen and len(case.data) < 2000),
    *(
        b"%b HTTP/1.1\r\n%b\r\n" % (line, FIELDS)
        for line in (b"GET /a/../b?c", b"GET http://T:80//a%2e?b", b"OPTIONS *", b"HEAD /")
    ),
    b"PUT /p HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n" % FIELDS,
    b"POST /p HTTP/1.1\r\n%bContent-Length: 7\r\nExpect: 100-continue\r\n\r\nabcdefg" % FIELDS,
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
        b"5",
        b"a",
        b"%2e",
        b"%2f",
        b"/",
        b"..",
        b"?",
        b"#",
        b"*",
    ),
    *(
        b"Host: t\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: X-A\r\n",
        b"X-A: 1\r\n",
        b"Max-Forwards: 1\r\n",
        b"TE: x\r\n",
    ),
    *(
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"OPTIONS ",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"http://t",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"\r\n\r\n",
    ),
]
# What says how the message travels, or what only the gateway may say.
TAKEN_OUT = re.compile(
    rb"connection|content[-_]length|transfer[-_]encoding|te|trailer|upgrade|keep[-_]alive|host|expect|http2[-_]settings"
    rb"|proxy([-_](connection|authenticate|authorization))?|x[-_](forwarded[-_](for|proto|host|port)|real[-_]ip|waspgate[-_]trace)"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    seeds = st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), st.sampled_from(SEEDS))
    data = b"".join(draw(st.lists(seeds, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 2, 8]))
        put = draw(st.one_of(st.sampled_from(PIECES), st.just(b""), st.binary(min_size=1, max_size=1)))
        data = data[:start] + put + data[end:]
    return data


def answer(request: bytes) -> bytes:
    """A server that answers once it has a whole request."""
    messages = read_with_h11(request)
    if not messages or not messages[0].complete:
        return b""
    return OK.replace(b"2\r\n\r\nok", b"0\r\n\r\n") if messages[0].method == b"HEAD" else OK


def expected_target(message: Message) -> bytes:
    """In origin form, its path normal."""
    target = re.sub(rb"(?i)\Ahttps?://[^/?]*", b"", message.target)
    if target != message.target and not target and message.method == b"OPTIONS":
        return b"*"
    path, mark, query = target.partition(b"?")
    return b"*" if path == b"*" else normalise(path or b"/") + mark + query


def expected_host(message: Message) -> list[bytes]:
    """RFC 9112, section 3.2: the target's own if it has one, which the gateway wants to agree with Host."""
    absolute = re.match(rb"(?i)https?://([^/?]*)", message.target)
    hosts = message.values(b"host")
    if absolute is None:
        return hosts
    named = absolute[1]
    assert not hosts or [bare(host) for host in hosts] == [bare(named)]
    return hosts or [named]


def bare(authority: bytes) -> bytes:
    host, _, port = authority.lower().partition(b":")
    return host.removesuffix(b".") + b":" + (port or b"80").lstrip(b"0")


def end_to_end(message: Message) -> Fields:
    named = {token.strip(b" \t").lower() for value in message.values(b"connection") for token in value.split(b",")}
    # RFC 9110, section 7.6.2, for OPTIONS.
    counted = b"max-forwards" if message.method == b"OPTIONS" else b""
    return [
        (name, value)
        for name, value in message.fields
        if TAKEN_OUT.fullmatch(name) is None
        and name != counted
        and name not in named - {b"close", b"keep-alive", b"te", b"upgrade"}
    ]


def check(told: bytes, sent: Message) -> None:
    """`told` is all that one connection to the upstream got for this message of the client."""
    assert_clean(told.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    (got,) = read_with_h11(told)
    (same,) = read_with_llhttp(told)
    assert (same.method, same.target, same.fields, same.body, same.complete) == (
        got.method,
        got.target,
        got.fields,
        got.body,
        got.complete,
    )
    assert (got.method, got.target) == (sent.method, expected_target(sent))
    assert got.values(b"host") == (expected_host(sent) or [b"127.0.0.1:1"])
    assert end_to_end(got) == end_to_end(sent)
    assert sent.body.startswith(got.body)
    assert not got.complete or (sent.complete and got.body == sent.body)
    assert not got.trailers


def exchange(data: bytes, cuts: list[int], plugins: bool) -> Wire:
    wire = Wire(answer, plugins=plugins)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        wire.send(data[start:end])
    return wire


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), st.lists(st.integers(0, 4000), max_size=3), st.booleans())
@example(b"".join(SEEDS[:2]), [], False)
def test_what_is_accepted_has_one_meaning(data: bytes, cuts: list[int], plugins: bool) -> None:
    wire = exchange(data, cuts, plugins)
    forwarded = [told for told in wire.forwarded if told]
    readings = [read_with_h11(data), read_with_llhttp(data)]
    for told, *views in zip(forwarded, *readings, strict=False):
        for view in views:
            check(told, view)
    # The first that is refused is the last that is read.
    assert len(forwarded) <= min(map(len, readings))
    assert b" 500 " not in wire.answered.partition(b"\r\n")[0]
