"""The addresses of `--stream-listen`: held by the supervisor, and opened anew by each worker.

The law: an address is somebody else's or ours before the first worker starts, and stays ours while workers come and go.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Self

from data_plane.http.listener import listening_socket
from data_plane.settings import StreamListen

# A listening socket, and whether its connections begin with a ClientHello.
StreamListener = tuple[socket.socket, bool]


class StreamListenError(OSError):
    """One line for the operator."""


class StreamAddresses:
    def __init__(self, wanted: Sequence[StreamListen], reserve: Callable[[str, int], socket.socket]) -> None:
        """Raises StreamListenError."""
        self._wanted = wanted
        self._held: list[socket.socket] = []
        for item in wanted:
            try:
                self._held.append(reserve(item.host, item.port))
            except OSError as error:
                self.close()
                raise StreamListenError(f"cannot listen on {item} (--stream-listen): {error.strerror or error}") from error
        # An address with port 0 has a port by now.
        self._places: list[tuple[str, int]] = [held.getsockname()[:2] for held in self._held]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        found = zip(self._wanted, self._places, strict=True)
        return ", ".join(str(StreamListen(*place, item.sniffs)) for item, place in found)

    def open(self) -> list[StreamListener]:
        """In a worker: sockets of its own, for the kernel to spread connections over."""
        opened = [(listening_socket(*place), item.sniffs) for item, place in zip(self._wanted, self._places, strict=True)]
        self.close()
        return opened

    def close(self) -> None:
        for held in self._held:
            held.close()
