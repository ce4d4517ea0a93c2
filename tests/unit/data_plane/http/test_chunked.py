from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.http.chunked import ChunkedError, ChunkedReader, TrailerReader
from data_plane.http.limits import CHUNK_OVERHEAD_BYTES

MESSAGE = b"5;a=b\r\nhello\r\n4\r\n\r\n\r\n\r\n0\r\nX: y\r\n\r\n"
REST = b"GET / HTTP/1.1\r\n\r\n"


def read(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """What a reader makes of pieces: the body, whether it ended, and everything behind."""
    reader = ChunkedReader()
    body = rest = b""
    done = False
    for piece in pieces:
        if done:
            rest += piece
        else:
            data, done, rest = reader.feed(piece)
            body += data
    return body, done, rest


@given(st.lists(st.integers(0, len(MESSAGE + REST)), max_size=8))
def test_the_end_is_found_however_the_bytes_arrive(cuts: list[int]) -> None:
    data = MESSAGE + REST
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges) if end > start]
    assert read(pieces) == (b"hello\r\n\r\n", True, REST)


@given(
    st.lists(st.binary(min_size=1, max_size=300) | st.just(b"\r\n\r\n") | st.just(b"0\r\n\r\n"), max_size=6), st.integers(1, 50)
)
def test_any_body_comes_back(chunks: list[bytes], step: int) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + REST
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    assert read(pieces) == (b"".join(chunks), True, REST)


@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from([b"1", b"0", b"\r", b"\n", b"\r\n", b";", b"a", b" "]), max_size=20).map(b"".join)
)
def test_what_is_read_to_its_end_h11_reads_too(data: bytes) -> None:
    try:
        body, done, rest = read([data])
    except ChunkedError:
        return
    if not done:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    seen = b""
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            seen += event.data
        else:
            assert isinstance(event, h11.Request)
    assert (seen, server.trailing_data[0]) == (body, rest)


BAD = [b"g\r\n", b"5_\r\n", b"0x1\r\n", b"-1\r\n", b" 1\r\n", b"1\r\nab\r\n", b"1\na", b"1\r\na\n0\r\n\r\n", b"\r\n"]


@pytest.mark.parametrize("data", BAD)
def test_malformed(data: bytes) -> None:
    with pytest.raises(ChunkedError):
        read([data])


def test_extensions_and_trailers_are_bounded_by_the_body() -> None:
    reader = ChunkedReader()
    reader.feed(b"1;" + b"x" * (CHUNK_OVERHEAD_BYTES - 100))
    with pytest.raises(ChunkedError):
        reader.feed(b"x" * 200)
    reader = ChunkedReader()
    reader.feed(b"0\r\n" + b"X: a\r\n" * (CHUNK_OVERHEAD_BYTES // 6 - 1))
    with pytest.raises(ChunkedError):
        reader.feed(b"X: a\r\n" * 2)


def test_a_body_in_chunks_of_one_byte_is_fine() -> None:
    body, done, _ = read([b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n"])
    assert (len(body), done) == (100_000, True)


@given(st.lists(st.integers(0, len(MESSAGE + REST)), max_size=8))
def test_a_trailer_reader_keeps_the_trailers_and_only_them(cuts: list[int]) -> None:
    data = MESSAGE + REST
    edges = [0, *sorted(cuts), len(data)]
    reader = TrailerReader()
    done = False
    for start, end in pairwise(edges):
        if end > start and not done:
            _, done, _ = reader.feed(data[start:end])
    assert reader.lines == b"X: y\r\n"


def test_a_trailer_reader_drops_what_belongs_in_heads() -> None:
    reader = TrailerReader()
    reader.feed(b"0\r\nX-A: 1\r\nHost: evil\r\nauthorization: x\r\nX_Forwarded_For: 6.6.6.6\r\nX-B: 2\r\n\r\n")
    assert reader.lines == b"X-A: 1\r\nX-B: 2\r\n"
