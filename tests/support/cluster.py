"""A data plane on a real cluster of three etcd, with a path of its own to each member and a client that never stops asking.

The law: a test does what it likes to the members and the paths; what it writes goes to the members directly. No answer to the
client may be anything but 200, whatever happens to the store.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared.keys import resource_key
from shared.store.contract import ConfigStore, Delete, Put, StoreUnavailable
from shared.store.url import open_store
from tests.support.command import wait_until
from tests.support.data_plane import DataPlane, write_route
from tests.support.etcd import Etcd
from tests.support.gateway import HOST, answering, ok, upstream
from tests.support.raw_http import client
from tests.support.relay import Relay, relay

MEMBERS = 3
STEADY = "/steady"


@dataclass
class Client:
    """Asks for one path, on one connection after the other."""

    port: int
    asked: int = 0
    failed: list[object] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                with client(self.port) as raw:
                    status: object = raw.get(STEADY.encode()).status
            except (OSError, EOFError) as error:
                status = error
            self.asked += 1
            if status != 200:
                self.failed.append(status)

    def stop(self) -> None:
        self._stop.set()


class Paths:
    """A relay to each member, on a loop in a thread of its own."""

    def __init__(self, members: list[Etcd]) -> None:
        self.relays: list[Relay] = []
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="paths")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(members), self._loop).result(10)

    @property
    def url(self) -> str:
        return f"etcd://{','.join(one.endpoint for one in self.relays)}"

    def cut(self, *which: int) -> None:
        self._each(which, Relay.cut)

    def mend(self) -> None:
        self._each((), Relay.mend)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self, members: list[Etcd]) -> None:
        self.relays = [await self._stack.enter_async_context(relay(member.port)) for member in members]

    def _each(self, which: tuple[int, ...], do: Callable[[Relay], None]) -> None:
        chosen = [self.relays[number] for number in which] or self.relays

        async def all_of_them() -> None:
            for one in chosen:
                do(one)

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result(10)


@dataclass
class Site:
    members: list[Etcd]
    paths: Paths
    plane: DataPlane
    client: Client
    upstream_port: int

    @property
    def url(self) -> str:
        return f"etcd://{','.join(member.endpoint for member in self.members)}"

    def document(self, path: str) -> bytes:
        return json.dumps({"uri": path, "upstream": {"nodes": {f"{HOST}:{self.upstream_port}": 1}}}).encode()

    async def write(self, *paths: str) -> None:
        """A route for each of them, one revision after the other, however often it takes."""
        async with open_store(self.url) as store:
            for path in paths:
                await insist(store, Put(resource_key("routes", path.strip("/")), self.document(path)))

    async def delete(self, path: str) -> None:
        async with open_store(self.url) as store:
            await insist(store, Delete(resource_key("routes", path.strip("/"))))

    async def serves(self, *paths: str, status: int = 200, seconds: float = 12.0) -> None:
        def all_of_them() -> bool:
            return all(self.ask(path) == status for path in paths)

        await asyncio.to_thread(wait_until, all_of_them, f"{', '.join(paths)}: {status}", seconds)

    def ask(self, path: str) -> int | None:
        try:
            with client(self.plane.port) as raw:
                return raw.get(path.encode()).status
        except (OSError, EOFError):
            return None

    async def leader(self) -> Etcd:
        for member in self.members:
            (status,) = json.loads(await member.control("endpoint", "status", "-w", "json"))
            if status["Status"]["leader"] == status["Status"]["header"]["member_id"]:
                return member
        raise AssertionError("no member says that it leads")


async def insist(store: ConfigStore, operation: Put | Delete, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await store.transaction((), (operation,))
                return
            except StoreUnavailable:
                await asyncio.sleep(0.05)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    members = [Etcd(folder / f"member{number}", name=f"member{number}") for number in range(MEMBERS)]
    for member in members:
        member.members = members

    async def start() -> None:
        await asyncio.gather(*(member.start() for member in members))

    with ExitStack() as stack:
        for member in members:
            stack.callback(member.kill)
        asyncio.run(start())
        paths = Paths(members)
        stack.callback(paths.close)
        server = stack.enter_context(upstream(answering(ok())))
        write_route(members[0].url, server.port)
        asyncio.run(_steady(members[0].url, server.port))
        plane = DataPlane(folder, store=paths.url)
        stack.callback(_end, plane)
        plane.ready(1)
        asking = Client(plane.port)
        thread = threading.Thread(target=asking.run, name="client")
        thread.start()
        stack.callback(thread.join, 10)
        stack.callback(asking.stop)
        yield Site(members, paths, plane, asking, server.port)
        assert asking.asked
        assert asking.failed == []


async def _steady(url: str, port: int) -> None:
    document = {"uri": STEADY, "upstream": {"nodes": {f"{HOST}:{port}": 1}}}
    async with open_store(url) as store:
        await store.put(resource_key("routes", "steady"), json.dumps(document).encode())
        await store.delete(resource_key("routes", "1"))


def _end(plane: DataPlane) -> None:
    plane.process.terminate()
    plane.process.wait(40)
