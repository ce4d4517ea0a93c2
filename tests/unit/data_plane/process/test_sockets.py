"""Listening sockets that outlive their workers: who waits in a queue is accepted, whoever comes to accept."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from data_plane.process.sockets import Sockets

HOST = "127.0.0.1"


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    held = Sockets()
    yield held
    held.close()


def test_an_address_is_held_and_somebody_else_s_is_refused(sockets: Sockets) -> None:
    sockets.open("a", (HOST, 0), 2)
    place = sockets.bound("a")
    assert place[1] != 0
    other = Sockets()
    with pytest.raises(OSError, match="Address already in use"):
        other.open("a", place, 1)
    assert other.names() == set()
    sockets.close_only("a")
    other.open("a", place, 1)
    other.close()


def test_fewer_workers_accept_on_all_that_there_are(sockets: Sockets) -> None:
    sockets.open("a", (HOST, 0), 3)
    of = [sockets.of("a", number, 3) for number in (1, 2, 3)]
    assert [len(mine) for mine in of] == [1, 1, 1]
    sockets.open("a", (HOST, 0), 2)
    assert sockets.of("a", 1, 2) == [*of[0], *of[2]]
    assert sockets.of("a", 2, 2) == of[1]
    sockets.open("a", (HOST, 0), 4)
    assert len({one.getsockname() for number in range(1, 5) for one in sockets.of("a", number, 4)}) == 1


def test_while_a_worker_rests_its_clients_come_to_the_others(sockets: Sockets) -> None:
    sockets.open("a", (HOST, 0), 2)
    place = sockets.bound("a")
    sockets.rest(1, 2)
    (mine,) = sockets.of("a", 2, 2)
    with socket.create_connection(place), socket.create_connection(place), socket.create_connection(place):
        for _ in range(3):
            mine.setblocking(True)
            mine.accept()[0].close()
    assert sockets.bound("a") == place
    sockets.wake()
    (woken,) = sockets.of("a", 1, 2)
    assert woken.getsockname() == place
    assert woken.fileno() >= 0


def test_a_worker_keeps_its_own_only(sockets: Sockets) -> None:
    sockets.open("a", (HOST, 0), 2)
    sockets.open("b", (HOST, 0), 2)
    mine, others = sockets.of("a", 1, 2), [*sockets.of("a", 2, 2), *sockets.of("b", 1, 2), *sockets.of("b", 2, 2)]
    sockets.keep(mine)
    assert all(one.fileno() < 0 for one in others)
    assert mine[0].fileno() >= 0
    mine[0].close()
