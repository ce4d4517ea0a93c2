"""Peers that do anything at any time: every session ends, and nothing is left behind."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_plane.config.snapshot import Timeouts
from tests.support.certificates import make_certificates
from tests.support.streams import echo, entry, live_streams, refused_port, reset, server, upstream_of

SECONDS_TO_END = 20.0


def behave(connection: socket.socket, choose: random.Random) -> None:
    """Some sends, reads, ends and waits, and perhaps a reset. What breaks meanwhile is the point of it."""
    connection.settimeout(0.05)
    for _ in range(choose.randrange(1, 12)):
        what = choose.random()
        if what < 0.35:
            connection.sendall(b"x" * choose.choice([1, 100, 70_000, 300_000]))
        elif what < 0.6:
            connection.recv(choose.choice([1, 1000, 1 << 20]))
        elif what < 0.7:
            connection.shutdown(socket.SHUT_WR)
        elif what < 0.75:
            time.sleep(choose.random() / 20)
        elif what < 0.9:
            if not isinstance(connection, ssl.SSLSocket):
                reset(connection)
            return


def server_of(certificates: Path | None) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificates is not None:
        files = make_certificates(certificates)
        context.load_cert_chain(files.cert, files.key)
    seeds = iter(range(1_000_000))

    def serve(connection: socket.socket) -> None:
        choose = random.Random(next(seeds))
        if certificates is not None and choose.random() < 0.9:
            with context.wrap_socket(connection, server_side=True) as secured:
                (echo if choose.random() < 0.5 else lambda secured: behave(secured, choose))(secured)
        elif choose.random() < 0.5:
            echo(connection)
        else:
            behave(connection, choose)

    return serve


@pytest.mark.parametrize("loop_name", ["uvloop", "asyncio"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nothing_is_left(loop_name: str, tls: bool, tmp_path: Path) -> None:
    with server(server_of(tmp_path / "certificates" if tls else None)) as port, live_streams(loop_name) as live:
        live.serve(entry(upstream_of(refused_port(), port, port, timeouts=Timeouts(2, 1, 1), idle=1, tls=tls)))

        def come(seed: int) -> None:
            choose = random.Random(seed)
            for _ in range(15):
                try:
                    with live.connect() as client:
                        behave(client, choose)
                except OSError:
                    continue

        clients = [threading.Thread(target=come, args=(seed,)) for seed in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        live.until(lambda streams: not streams.busy(), SECONDS_TO_END)
        assert live.streams.counters.sessions > 0
