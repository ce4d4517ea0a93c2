"""`make soak`: mixed traffic for a while, with everything going on that goes on in production.

The law: it ends with status 1 when a request failed that should not have, or when a worker holds more at the end than it did
when it was warm. The first part replaces workers, the second lets them live, so that growth can be seen.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from tests.soak.books import Books
from tests.soak.clients import Clients
from tests.soak.disturb import GRACE_SECONDS, Disturber, Upstreams
from tests.soak.report import report
from tests.soak.upstream import HOST
from tests.soak.watch import Watch
from tests.support.command import ROOT, wait_until
from tests.support.up import Up, waspgate_up

WORKERS = 2
# Of the time, with workers that come and go; and of the rest, until those that stay are warm.
REPLACING, WARMING = 0.35, 0.25
# Between two replacements: longer than a worker takes to go.
TURN_SECONDS = 8.0
LOOK_SECONDS = 2.0
MODULE = ROOT / ".build/plugins/c-greeting.wasm"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def soak(up: Up, seconds: float, upstreams: Upstreams, books: Books, watch: Watch) -> list[str]:
    """What is wrong at the end."""
    async with serve(echo, HOST, 0) as server:
        disturber = Disturber(up, books, upstreams)
        port: int = next(iter(server.sockets)).getsockname()[1]
        await asyncio.to_thread(disturber.configure, MODULE.read_bytes(), port)
        clients = Clients(int(up.listen.rpartition(":")[2]), books)
        async with asyncio.TaskGroup() as group:
            for client in clients.all():
                group.create_task(_of(client))
            disturbing = [asyncio.create_task(it) for it in (disturber.change_for_ever(), disturber.restart_for_ever())]
            await replace_workers(disturber, seconds * REPLACING)
            rest = seconds * (1 - REPLACING)
            await looking(up, watch, rest * WARMING)
            watch.forget_beginning()
            await looking(up, watch, rest * (1 - WARMING))
            for task in disturbing:
                task.cancel()
            ended = await asyncio.gather(*disturbing, return_exceptions=True)
            clients.over.set()
    wrong = [f"a disturbance ended: {error!r}" for error in ended if not isinstance(error, asyncio.CancelledError)]
    return [*wrong, *await asyncio.to_thread(left_over, up)]


async def _of(client: object) -> None:
    await client  # type: ignore[misc]


async def replace_workers(disturber: Disturber, seconds: float) -> None:
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        for turn in disturber.turns():
            await asyncio.sleep(TURN_SECONDS)
            await asyncio.to_thread(turn)
    # The last that was replaced is gone, and so are the clients that it excused.
    await asyncio.sleep(TURN_SECONDS + GRACE_SECONDS)


async def looking(up: Up, watch: Watch, seconds: float) -> None:
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        watch.look(await asyncio.to_thread(up.control, "/v1/workers"))
        await asyncio.sleep(LOOK_SECONDS)


def left_over(up: Up) -> list[str]:
    """When all clients are gone, nothing of them is left."""
    try:
        wait_until(lambda: all(not worker["connections"] for worker in up.control("/v1/workers")), "all clients are gone", 20)
    except AssertionError as error:
        return [str(error)]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes: float = parser.parse_args().minutes
    # Connections that break are what this is about.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    books, watch, upstreams = Books(), Watch(), Upstreams()
    try:
        with tempfile.TemporaryDirectory() as folder:
            more = {"WASPGATE_GRACE": str(GRACE_SECONDS), "WASPGATE_H2C": "true"}
            with waspgate_up(Path(folder), upstreams.ports[0], WORKERS, **more) as up:
                wrong = asyncio.run(soak(up, minutes * 60, upstreams, books, watch))
    finally:
        upstreams.stop()
    wrong += books.failures + [line for watched in watch.workers.values() for line in watched.grows()]
    verdict = "\n".join(wrong) if wrong else "nothing failed, nothing grew"
    sys.stdout.write(f"{report(books, watch)}\n{verdict}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
