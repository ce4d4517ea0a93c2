"""The listening sockets of a data plane: opened by the supervisor, accepted on by the workers, and outliving them.

The law: an address is somebody else's or ours before the first worker starts. Each worker has a socket of its own, for the
kernel to spread connections over (SO_REUSEPORT), and the supervisor has it as well: a connection that waits in the queue of a
worker that ends is accepted by the next one. Sockets are never fewer than they were: when there are fewer workers, some
accept on two, because closing a socket resets who waits there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from data_plane.http.listener import listening_socket
from data_plane.settings import StreamListen

Address = tuple[str, int]
# A listening socket for TCP, and what it is for.
StreamListener = tuple[socket.socket, StreamListen]


class Sockets:
    """By the name of what is listened for; port 0 stands for one port as long as the name is wanted."""

    def __init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {}

    def open(self, name: str, address: Address, workers: int) -> None:
        """Have a socket there for each worker. Raises OSError when somebody else listens there."""
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = [_first(*address)]
        while len(held) < workers:
            held.append(listening_socket(*self.bound(name)))

    def rest(self, number: int, workers: int) -> None:
        """Give up those of a worker that nobody can replace for a while, so that clients come to the others."""
        for held in self._held.values():
            for one in held[number - 1 :: workers]:
                one.close()

    def wake(self) -> None:
        """Have new ones in the place of those that were given up. Raises OSError."""
        for name, held in self._held.items():
            for index, one in enumerate(held):
                if one.fileno() < 0:
                    held[index] = listening_socket(*self.bound(name))

    def bound(self, name: str) -> Address:
        """Where that is: with the port that the kernel chose for 0."""
        host, port = next(one for one in self._held[name] if one.fileno() >= 0).getsockname()[:2]
        return host, port

    def names(self) -> set[str]:
        return set(self._held)

    def of(self, name: str, number: int, workers: int) -> list[socket.socket]:
        """Those of one worker of so many; numbers begin with 1."""
        return self._held[name][number - 1 :: workers]

    def keep(self, mine: Iterable[socket.socket]) -> None:
        """In a worker: let go of the others'."""
        kept = set(mine)
        for held in self._held.values():
            for one in held:
                if one not in kept:
                    one.close()
        self._held.clear()

    def close_only(self, name: str) -> None:
        for one in self._held.pop(name, []):
            one.close()

    def close(self) -> None:
        for name in tuple(self._held):
            self.close_only(name)


def _first(host: str, port: int) -> socket.socket:
    """Binding without SO_REUSEPORT comes first: with it, two gateways of one user would share the port unnoticed."""
    if port:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    return listening_socket(host, port)


def page_socket(host: str, port: int) -> socket.socket:
    """For a page of the observer; raises OSError."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
