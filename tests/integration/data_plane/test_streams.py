"""TCP sessions over real sockets: what passes, how they end, and what a peer that misbehaves costs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_plane.config.snapshot import Timeouts
from tests.support.gateway import HOST
from tests.support.streams import (
    LiveStreams,
    echo,
    entry,
    live_streams,
    read_all,
    read_exactly,
    refused_port,
    reset,
    server,
    upstream_of,
)

MIB = 1 << 20


@pytest.fixture(params=["uvloop", "asyncio"])
def live(request: pytest.FixtureRequest) -> Iterator[LiveStreams]:
    with live_streams(request.param) as live:
        yield live


@pytest.fixture
def echoing() -> Iterator[int]:
    with server(echo) as port:
        yield port


def test_bytes_pass_both_ways_and_the_end_of_one_is_passed_on(live: LiveStreams, echoing: int) -> None:
    live.serve(entry(upstream_of(echoing)))
    with live.connect() as client:
        client.sendall(b"hello")
        assert read_exactly(client, 5) == b"hello"
        client.sendall(b" and more")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b" and more"
    live.until(lambda streams: not streams.connections)
    counters = live.streams.counters
    assert (counters.sessions, counters.bytes_received, counters.bytes_sent, counters.resets) == (1, 14, 14, 0)


def test_an_upstream_that_speaks_first_and_ends_first(live: LiveStreams) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"welcome")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))

    heard: list[bytes] = []
    with server(greet) as port:
        live.serve(entry(upstream_of(port)))
        with live.connect() as client:
            assert read_all(client) == b"welcome"
            client.sendall(b"said after your end")
        live.until(lambda streams: not streams.connections)
    assert heard == [b"said after your end"]


def test_a_hundred_megabytes_pass_without_being_kept(live: LiveStreams, echoing: int) -> None:
    live.serve(entry(upstream_of(echoing)))
    size, piece = 100 * MIB, b"0123456789abcdef" * (1 << 14)

    def send() -> None:
        for _ in range(size // len(piece)):
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)

    with live.connect() as client:
        client.settimeout(30)
        before = resident()
        sender = threading.Thread(target=send)
        sender.start()
        received = 0
        peak = 0
        while data := client.recv(1 << 20):
            assert data == (piece * 6)[received % len(piece) :][: len(data)]
            received += len(data)
            peak = max(peak, resident())
        sender.join()
    assert received == size
    assert peak - before < 20 * MIB


def test_a_client_that_does_not_read_stops_the_upstream(live: LiveStreams) -> None:
    sent: list[int] = []
    stopped = threading.Event()

    def flood(connection: socket.socket) -> None:
        connection.setblocking(False)
        piece = b"x" * 65536
        sent.append(0)
        while True:
            try:
                sent[0] += connection.send(piece)
            except BlockingIOError:
                if stopped.wait(0.01):
                    return

    with server(flood) as port:
        live.serve(entry(upstream_of(port)))
        with live.connect() as client:
            live.until(lambda streams: any(connection.is_paused() for connection in streams.connections))
            before = resident()
            live.ask(lambda: None)
            assert resident() - before < 5 * MIB
            read_exactly(client, sent[0])
            stopped.set()


def resident() -> int:
    """Of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_reset_of_the_upstream_is_a_reset_for_the_client(live: LiveStreams) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1)
        reset(connection)

    with server(refuse) as port:
        live.serve(entry(upstream_of(port)))
        with live.connect() as client:
            client.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert live.streams.counters.resets == 1


def test_a_reset_of_the_client_is_a_reset_for_the_upstream(live: LiveStreams) -> None:
    errors: list[BaseException] = []
    connected, done = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        connected.set()
        try:
            connection.recv(1)
        except OSError as error:
            errors.append(error)
        done.set()

    with server(serve) as port:
        live.serve(entry(upstream_of(port)))
        client = live.connect()
        assert connected.wait(5)
        live.until(lambda streams: len(streams.connections) == 2)
        reset(client)
        assert done.wait(5)
    assert [type(error) for error in errors] == [ConnectionResetError]


def test_a_node_that_refuses_is_passed_over(live: LiveStreams, echoing: int) -> None:
    live.serve(entry(upstream_of(refused_port(), echoing)))
    with live.connect() as client:
        client.sendall(b"sent before there was an upstream")
        assert read_exactly(client, 33) == b"sent before there was an upstream"
    counters = live.streams.counters
    assert (counters.upstream_errors, counters.upstream_retries) == (1, 1)


def test_without_any_node_that_connects_the_client_is_reset(live: LiveStreams) -> None:
    live.serve(entry(upstream_of(refused_port(), refused_port())))
    with pytest.raises(ConnectionResetError), live.connect() as client:
        client.recv(1)
    live.until(lambda streams: not streams.connections)
    assert (live.streams.counters.upstream_errors, live.streams.counters.aborted) == (2, 1)


@pytest.mark.parametrize("routes", [(), (entry(None),)], ids=["no route", "no upstream"])
def test_a_connection_that_nothing_serves_is_reset(live: LiveStreams, routes: tuple[()]) -> None:
    live.serve(*routes)
    with pytest.raises(ConnectionResetError), live.connect() as client:
        client.recv(1)


def test_an_idle_session_ends(live: LiveStreams, echoing: int) -> None:
    live.serve(entry(upstream_of(echoing, idle=0.2)))
    with live.connect() as client:
        client.sendall(b"x")
        assert read_all(client) == b"x"
    assert live.streams.counters.timeouts == 1


def test_a_peer_that_never_reads_is_given_up(live: LiveStreams) -> None:
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 65536)

    with server(flood) as port:
        live.serve(entry(upstream_of(port, timeouts=Timeouts(5, 0.2, 5))))
        with live.connect():
            live.until(lambda streams: streams.counters.timeouts)
            live.until(lambda streams: not streams.busy())


def test_a_client_that_leaves_while_it_is_being_connected(live: LiveStreams) -> None:
    # A full backlog: the connection is neither made nor refused.
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        live.serve(entry(upstream_of(full.getsockname()[1], timeouts=Timeouts(5, 5, 5))))
        client = live.connect()
        live.until(lambda streams: streams.busy())
        reset(client)
        live.until(lambda streams: not streams.connections)
        for other in others:
            other.close()


def test_a_connect_timeout(live: LiveStreams) -> None:
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        live.serve(entry(upstream_of(full.getsockname()[1], timeouts=Timeouts(0.1, 5, 5))))
        with pytest.raises(ConnectionResetError), live.connect() as client:
            client.recv(1)
        for other in others:
            other.close()


def test_draining_waits_for_sessions_and_then_cuts_them(live: LiveStreams, echoing: int) -> None:
    live.serve(entry(upstream_of(echoing)))
    with live.connect() as client:
        client.sendall(b"x")
        assert read_exactly(client, 1) == b"x"
        ending = live.drain(30)
        client.sendall(b"y")
        assert read_exactly(client, 1) == b"y"
        assert not ending.done()
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
        assert ending.result(5) == 0
    with live.connect() as client:
        client.sendall(b"x")
        assert read_exactly(client, 1) == b"x"
        assert live.drain(0.05).result(5) == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_too_many_clients_are_reset(live: LiveStreams, echoing: int) -> None:
    live.serve(entry(upstream_of(echoing)))
    live.ask(lambda: setattr(live.streams._gateway, "limit", 1))
    with live.connect() as first:
        first.sendall(b"x")
        assert read_exactly(first, 1) == b"x"
        with pytest.raises(ConnectionResetError), live.connect() as second:
            second.recv(1)
    live.until(lambda streams: not streams.connections)
    with live.connect() as third:
        third.sendall(b"x")
        assert read_exactly(third, 1) == b"x"


def test_a_session_that_is_closed_gives_the_client_all_that_was_sent(live: LiveStreams) -> None:
    """Also to a client that goes on sending: what nobody reads would reset the connection."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"x" * (64 * MIB))

    def close_all() -> None:
        for session in tuple(live.streams._sessions):
            session.close()

    with server(serve) as port:
        live.serve(entry(upstream_of(port)))
        with live.connect() as client:
            live.until(lambda streams: any(connection.is_paused() for connection in streams.connections))
            client.sendall(b"unheard")
            live.ask(close_all)
            client.sendall(b"more of it")
            received = read_all(client)
        assert received == b"x" * len(received)
        assert len(received) >= 64 * 1024
        live.until(lambda streams: not streams.connections)


def test_two_hundred_sessions_at_once(live: LiveStreams, echoing: int) -> None:
    live.serve(entry(upstream_of(echoing)))
    clients = [live.connect() for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    for number, client in enumerate(clients):
        assert read_exactly(client, len(str(number))) == b"%d" % number
        client.close()
    live.until(lambda streams: not streams.connections)
    assert live.streams.counters.sessions == 200
