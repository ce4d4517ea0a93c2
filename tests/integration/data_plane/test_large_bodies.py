"""Bodies far larger than the memory that they may take, in both directions and framings."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import cast

import pytest

from data_plane.http.downstream import ClientConnection
from tests.support.gateway import LiveGateway, UpstreamSide, ok, route_to, upstream
from tests.support.raw_http import RawClient, client

MIB = 1 << 20
SIZE = 256 * MIB
# Sent without end in `PIECE`s; both ends of this test live in the same process and buffer a little themselves.
PIECE = bytes(MIB)
ROOM = 48 * MIB


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def send_chunked(send: RawClient | UpstreamSide) -> None:
    for _ in range(SIZE // MIB):
        send.send(b"%x\r\n%b\r\n" % (MIB, PIECE))
    send.send(b"0\r\n\r\n")


def send_plain(send: RawClient | UpstreamSide) -> None:
    for _ in range(SIZE // MIB):
        send.send(PIECE)


def count(read_from: RawClient | UpstreamSide, end: int) -> int:
    """Read so many bytes off the socket, and watch the memory; returns the peak of its growth."""
    before = resident()
    peak = got = 0
    while got < end:
        data = read_from.socket.recv(MIB)
        if not data:
            raise EOFError(f"only {got} of {end}")
        got += len(data)
        peak = max(peak, resident() - before)
    return peak


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_download(gateway: LiveGateway, chunked: bool) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        if chunked:
            side.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            send_chunked(side)
        else:
            side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            send_plain(side)
        side.wait_for_close()

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert count(raw, SIZE) < ROOM


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload(gateway: LiveGateway, chunked: bool) -> None:
    peaks = []

    def script(side: UpstreamSide) -> None:
        peaks.append(count(side, SIZE))
        side.send(ok(b"got it", b"Connection: close"))
        side.wait_for_close()

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\n%b\r\n\r\n" % framing)
        sender = threading.Thread(target=send_chunked if chunked else send_plain, args=(raw,))
        sender.start()
        assert raw.response().body == b"got it"
        sender.join(30)
    assert peaks[0] < ROOM


def test_a_reader_that_stops_stops_the_upstream_and_starts_it_again(gateway: LiveGateway) -> None:
    sent = []

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            side.send(PIECE)
            sent.append(MIB)
        side.head()

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        gateway.until(lambda it: any(cast(ClientConnection, one)._blocked for one in it.clients))
        assert sum(sent) < 32 * MIB
        response = raw.response()
        assert len(response.body) == 64 * MIB
        # The connection was paused in the middle; it is whole again.
        gateway.until(lambda it: it.pool.idle() == 1)
