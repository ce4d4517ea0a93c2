"""What PluginContexts weigh: the worker's resident memory before and after each of 1,000 routes is asked for once.

The law: the VM and everything that grows with requests alone is there before the first reading.
"""

from __future__ import annotations

from http.client import HTTPConnection
from pathlib import Path

from tests.bench import waspgate
from tests.bench.proc import resident_bytes
from tests.bench.server import HOST, ask
from tests.bench.traffic import path
from tests.bench.works import HEADERS

CONTEXTS = 1000
# On one route, whose context is not counted: buffers, caches and the interpreter's specialised code.
WARM_UP_REQUESTS = 2000


def bytes_per_thousand_contexts(folder: Path, upstream_port: int) -> int:
    with waspgate.proxy(folder, upstream_port, work=HEADERS, routes=CONTEXTS + 1) as server:
        connection = HTTPConnection(HOST, server.port, timeout=5)
        try:
            for _ in range(WARM_UP_REQUESTS):
                ask(connection, path(CONTEXTS))
            before = resident_bytes(server.pid)
            for number in range(CONTEXTS):
                ask(connection, path(number))
            return resident_bytes(server.pid) - before
        finally:
            connection.close()
