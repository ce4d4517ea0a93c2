"""One connection to each worker of a data plane, found by whose socket is at its other end.

The law: with connections spread by the kernel nobody else can say of an answer which worker gave it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

HOST = "127.0.0.1"
# With so many no worker is left out but by a chance of one in 100,000, for eight workers.
MOST_CONNECTIONS = 128


def connections(port: int, pids: Sequence[int]) -> list[HTTPConnection]:
    """Open and kept, one for each process, in their order."""
    found: dict[int, HTTPConnection] = {}
    opened: list[HTTPConnection] = []
    while len(found) < len(pids):
        if len(opened) == MOST_CONNECTIONS:
            raise RuntimeError(f"of {MOST_CONNECTIONS} connections none reached workers {set(pids) - found.keys()}")
        connection = HTTPConnection(HOST, port, timeout=30)
        connection.connect()
        opened.append(connection)
        # The worker has it when it has answered.
        ask(connection, "/")
        owner = _owner(connection, pids)
        if owner is not None:
            found.setdefault(owner, connection)
    for connection in opened:
        if connection not in found.values():
            connection.close()
    return [found[pid] for pid in pids]


def ask(connection: HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def _owner(connection: HTTPConnection, pids: Sequence[int]) -> int | None:
    local = connection.sock.getsockname()[1]
    inode = _inode(local)
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return pid
    return None


def _inode(client_port: int) -> str:
    """Of the socket whose other end has this port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == client_port:
            return fields[9]
    raise RuntimeError(f"the kernel shows no connection from port {client_port}")
