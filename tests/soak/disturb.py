"""What the soak does to a gateway while it serves: changes, restarts of upstreams, reloads, killed workers.

The law: everything is written down, with what it may break and for how long; what is not written there may break nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.soak.books import LOST_BODY, Books
from tests.soak.upstream import HOST
from tests.support.command import ROOT, free_port, wait_until
from tests.support.up import Up

# A worker that goes away lets WebSockets live so long.
GRACE_SECONDS = 3
# A killed worker's connections break at once; a client may notice when it next reads.
KILL_EXCUSES_SECONDS = 2.0
RESTART_EXCUSES_SECONDS = 2.0
# Changes of plugins between two of the module: each is tried in a sandbox and compiled by every worker.
SWAP_EVERY = 5


class Upstreams:
    """Two, so that one can be away."""

    def __init__(self) -> None:
        self.ports = [free_port(), free_port()]
        self._processes = [self._start(port) for port in self.ports]

    def wait(self) -> None:
        for port in self.ports:
            wait_until(lambda: listens(port), "an upstream listens")  # noqa: B023

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.soak.upstream", str(port)], cwd=ROOT)

    async def restart(self, which: int) -> None:
        process = self._processes[which]
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
        await asyncio.sleep(random.random())
        self._processes[which] = self._start(self.ports[which])
        # Only one is away at a time.
        await asyncio.to_thread(self.wait)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(20)


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


class Disturber:
    def __init__(self, up: Up, books: Books, upstreams: Upstreams) -> None:
        self._up = up
        self._books = books
        self._upstreams = upstreams
        self._changes = 0
        self._module = b""

    def configure(self, module: bytes, web_socket_port: int) -> None:
        self._upstreams.wait()
        nodes = {f"{HOST}:{port}": 1 for port in self._upstreams.ports}
        self._up.put("upstreams/soak", {"nodes": nodes, "timeout": {"connect": 2, "send": 10, "read": 10}})
        self._module = module
        self._swap_module()
        self._up.put("routes/all", {"uri": "/*", "upstream_id": "soak"})
        web_socket = {"nodes": {f"{HOST}:{web_socket_port}": 1}}
        self._up.put("routes/ws", {"uri": "/ws", "upstream": web_socket, "enable_websocket": True})
        self._change_plugin()
        self._change_native()
        # What `settle` waits for must not be the soak's own route.
        self._up.settle()

    def _change_plugin(self) -> None:
        self._changes += 1
        conf = {"greeting": {"conf": {"value": f"value {self._changes}"}}}
        self._up.put("routes/plugin", {"uri": "/plugin", "upstream_id": "soak", "plugins": conf})

    def _change_native(self) -> None:
        """What goes to the upstream is what a plugin makes of it; what comes back has a field of another."""
        self._changes += 1
        plugins = {
            "proxy-rewrite": {"regex_uri": ["^/native(.*)", "/small$1"], "headers": {"set": {"X-Asked": "$remote_addr"}}},
            "response-rewrite": {"headers": {"set": {"X-Native": f"value {self._changes}"}}},
        }
        self._up.put("routes/native", {"uri": "/native", "upstream_id": "soak", "plugins": plugins})

    def _swap_module(self) -> None:
        """The same program under another digest: a custom section at its end (WebAssembly core, 5.5.3)."""
        self._changes += 1
        name = b"%d" % self._changes
        self._up.upload("greeting", self._module + bytes((0, len(name) + 1, len(name))) + name)
        self._books.did("modules swapped")

    def _change_nodes(self) -> None:
        nodes = {f"{HOST}:{port}": random.randrange(1, 5) for port in self._upstreams.ports}
        self._up.put("upstreams/soak", {"nodes": nodes, "timeout": {"connect": 2, "send": 10, "read": 10}})

    def _change_routes(self) -> None:
        number = random.randrange(50)
        if random.random() < 0.5:
            self._up.put(f"routes/other-{number}", {"uri": f"/other/{number}", "upstream_id": "soak"})
        else:
            self._up.admin.delete(f"routes/other-{number}")

    async def change_for_ever(self) -> None:
        while True:
            changes = [self._change_plugin, self._change_native, self._change_nodes, self._change_routes]
            if not self._changes % SWAP_EVERY:
                changes.append(self._swap_module)
            for change in changes:
                await asyncio.to_thread(change)
                self._books.did("configuration changes")
                await asyncio.sleep(0.3)

    async def restart_for_ever(self) -> None:
        while True:
            for which in (0, 1):
                await asyncio.sleep(4)
                self._books.did("upstream restarts", LOST_BODY, RESTART_EXCUSES_SECONDS)
                await self._upstreams.restart(which)

    def kill_a_worker(self) -> None:
        workers: list[dict[str, Any]] = self._up.control("/v1/workers")
        self._books.did("workers killed", "*", KILL_EXCUSES_SECONDS)
        os.kill(random.choice(workers)["pid"], signal.SIGKILL)

    def reload(self) -> None:
        self._books.did("reloads", "WebSocket", GRACE_SECONDS + 10)
        # The parent hands it on to the data plane.
        self._up.command.process.send_signal(signal.SIGHUP)

    def turns(self) -> list[Callable[[], None]]:
        return [self.reload, self.kill_a_worker]
