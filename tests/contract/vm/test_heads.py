"""Heads and serialized maps by properties: what a plugin does not touch leaves as it came, and no bytes harm the core."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.pairs import Pairs, PairsError, decode, encode
from tests.support.guest import Guest, console, limits, open_stream

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
FRAMING = (
    *(b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection"),
    *(b"te", b"trailer", b"upgrade"),
)
NAMES = st.one_of(st.text(TOKEN, min_size=1, max_size=12).map(str.encode), st.sampled_from([*FRAMING, b"X-Two", b"Te", b"t"]))
INSIDE = st.binary(max_size=40).map(lambda raw: bytes(c for c in raw if (c >= 32 and c != 127) or c == 9))
VALUES = INSIDE.map(lambda value: value.strip(b" \t"))
SPACE = st.text(" \t", max_size=3).map(str.encode)
FIELDS = st.lists(st.tuples(NAMES, SPACE, VALUES, SPACE), max_size=30)
VISIBLE = st.binary(min_size=1, max_size=20).map(lambda raw: bytes(c for c in raw if c > 32 and c != 127) or b"/")

PROPERTY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def wire(fields: list[tuple[bytes, bytes, bytes, bytes]]) -> bytes:
    return b"".join(b"%b:%b%b%b\r\n" % field for field in fields)


def emitted(fields: list[tuple[bytes, bytes, bytes, bytes]]) -> list[bytes]:
    """What leaves: names in lower case, one space before the value, no framing."""
    return [b"%b: %b" % (name.lower(), value) for name, _, value, _ in fields if name.lower() not in FRAMING]


def head_of(answer: bytes | Outcome | None) -> list[bytes]:
    data = answer.data if isinstance(answer, Outcome) else answer
    assert data is not None
    assert data.endswith(b"\r\n")
    return data[:-2].split(b"\r\n")


@given(fields=FIELDS, method=st.text(TOKEN, min_size=1, max_size=8).map(str.encode), target=VISIBLE, host=VISIBLE)
@PROPERTY
def test_every_line_of_a_request_that_is_not_touched_leaves(
    guest: Guest, fields: list[tuple[bytes, bytes, bytes, bytes]], method: bytes, target: bytes, host: bytes
) -> None:
    fields = [field for field in fields if field[0].lower() != b"host"]
    root = guest.vm.create_root(b"request_headers add 0 mark 1")
    stream = open_stream(root)
    head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (method, target, host, wire(fields))
    assert head_of(stream.request_headers(head, eos=True)) == [
        *(b"%b %b HTTP/1.1" % (method, target), b"host: " + host, *emitted(fields), b"mark: 1"),
    ]
    stream.finish()
    root.delete()


@given(fields=FIELDS, status=st.integers(200, 599), reason=INSIDE)
@PROPERTY
def test_every_line_of_a_response_that_is_not_touched_leaves(
    guest: Guest, fields: list[tuple[bytes, bytes, bytes, bytes]], status: int, reason: bytes
) -> None:
    root = guest.vm.create_root(b"response_headers add 2 mark 1\nresponse_headers remove 2 absent")
    stream = open_stream(root)
    stream.request_headers(b"GET / HTTP/1.1\r\n", eos=True)
    start = b"HTTP/1.1 %d %b" % (status, reason)
    answer = stream.response_headers(start + b"\r\n" + wire(fields), eos=True)
    assert head_of(answer) == [start, *emitted(fields), b"mark: 1"]
    stream.finish()
    root.delete()


@given(fields=FIELDS)
@PROPERTY
def test_a_plugin_sees_every_field(guest: Guest, fields: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    root = guest.vm.create_root(b"response_headers size 2\nresponse_headers get 2 last")
    stream = open_stream(root)
    stream.request_headers(b"GET / HTTP/1.1\r\n", eos=True)
    guest.take()
    stream.response_headers(b"HTTP/1.1 200 OK\r\n" + wire(fields) + b"last: here\r\n", eos=True)
    seen = [(b":status", b"200"), *((name.lower(), value) for name, _, value, _ in fields), (b"last", b"here")]
    assert guest.take()[1:] == [f"size: OK {len(encode(seen))}", "get: OK here"]
    stream.finish()
    root.delete()


# --- arbitrary bytes as a map


def expected(data: bytes) -> Pairs | None:
    """The map that the bytes are for a response, or None when they are none that can stand on a wire."""
    try:
        fields = decode(data)
    except PairsError:
        return None
    lowered = tuple((name.lower() if name.isascii() else name, value) for name, value in fields)
    return lowered if all(valid(name, value) for name, value in lowered) else None


def valid(name: bytes, value: bytes) -> bool:
    if name == b":status":
        return len(value) == 3 and value.isdigit() and b"200" <= value <= b"599"
    token = bool(name) and all(chr(c) in TOKEN for c in name)
    return token and all((c >= 32 and c != 127) or c == 9 for c in value)


MAPS = st.lists(
    st.tuples(st.one_of(NAMES, st.just(b":status"), st.binary(max_size=6)), st.one_of(VALUES, st.binary(max_size=6)))
)


@st.composite
def nearly_maps(draw: st.DrawFn) -> bytes:
    """A good one, with a byte or two changed or its end cut off."""
    data = bytearray(encode(draw(MAPS)))
    for _ in range(draw(st.integers(0, 2))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(data=st.one_of(MAPS.map(encode), nearly_maps(), st.binary(max_size=64)))
@example(data=b"\1\0\0\0\1\0\0\0\xff\xff\xff\xffa\0\0")
@example(data=encode([(b"x%d" % k, b"y") for k in range(1024)]))
@PROPERTY
def test_any_bytes_are_a_map_or_refused(guest: Guest, data: bytes) -> None:
    script = "response_headers set_raw 2 " + "".join(f"%{byte:02x}" for byte in data) + "%\nresponse_headers size 2"
    root = guest.vm.create_root(script.encode())
    stream = open_stream(root)
    stream.request_headers(b"GET / HTTP/1.1\r\n", eos=True)
    guest.take()
    answer = stream.response_headers(b"HTTP/1.1 200 OK\r\nkept: yes\r\n", eos=True)
    fields = expected(data)
    map_now = ((b":status", b"200"), (b"kept", b"yes")) if fields is None else fields
    assert guest.take()[1:] == [
        f"set_raw: {'BAD_ARGUMENT' if fields is None else 'OK'}",
        f"size: OK {len(encode(map_now))}",
    ]
    assert isinstance(answer, Outcome)
    if fields is None:
        assert answer.data is None
    elif any(name == b":status" for name, _ in fields):
        assert head_of(answer)[1:] == [
            b"%b: %b" % field for field in fields if field[0] != b":status" and field[0] not in FRAMING
        ]
    stream.finish()
    root.delete()


def test_more_than_1024_pairs_or_a_mebibyte_are_refused(engine: Engine) -> None:
    guest = Guest(engine, console(), limits(callback_cpu_ms=10_000, start_cpu_ms=10_000))
    for fields in ([(b"a", b"b")] * 1025, [(b"a", b"b" * 40_000)] * 27):
        script = "response_headers set_raw 2 " + "".join(f"%{byte:02x}" for byte in encode(fields))
        stream = open_stream(guest.root(script))
        stream.request_headers(b"GET / HTTP/1.1\r\n", eos=True)
        guest.take()
        stream.response_headers(b"HTTP/1.1 200 OK\r\n", eos=True)
        assert guest.take()[-1] in ("set_raw: BAD_ARGUMENT", "set_raw: INTERNAL_FAILURE")
    guest.vm.close()
