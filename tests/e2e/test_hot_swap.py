"""A plugin's module is replaced while requests run: none fails, and a bad module leaves the good one serving."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.command import wait_until
from tests.support.gateway import answering, ok, upstream
from tests.support.guest import build
from tests.support.up import Up, waspgate_up

CLIENTS = 3
SWAPS = 8
WORKERS = 2
SOURCE = (Path(__file__).parents[1] / "support" / "guest_sources" / "edition.c").read_text()


def edition(number: int, *defines: str) -> bytes:
    """A plugin that marks responses with its number."""
    return build(SOURCE, defines=[f"NUMBER={number}", *defines])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with (
        upstream(answering(ok(b"hello"))) as server,
        waspgate_up(tmp_path_factory.mktemp("up"), server.port, workers=WORKERS) as started,
    ):
        yield started


class Clients:
    """Ask two routes again and again over kept-alive connections, and keep the books: status and edition of every answer."""

    def __init__(self, up: Up, *paths: str) -> None:
        self.seen: Counter[tuple[int | str, str]] = Counter()
        self._urls = [f"http://{up.listen}{path}" for path in paths]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _ask(self) -> None:
        while not self._stop.is_set():
            # A few requests on a connection, then another one: so that both workers are asked.
            with httpx.Client(trust_env=False, timeout=10) as client:
                for url in self._urls * 5:
                    try:
                        response = client.get(url)
                        self.seen[response.status_code, response.headers.get("x-edition", "")] += 1
                    except httpx.TransportError as error:
                        self.seen[repr(error), ""] += 1

    def saw(self, number: int) -> bool:
        return self.seen[200, str(number)] > 20


def served(up: Up, path: str) -> bool:
    """By all workers: each request has a connection of its own."""
    return all(up.get(path).is_success for _ in range(10))


def bind(up: Up, name: str, count: int = 2) -> list[str]:
    paths = [f"/{name}-{number}" for number in range(count)]
    for path in paths:
        document = {"uri": path, "upstream": up.upstream, "plugins": {name: {"conf": path}}}
        up.put(f"routes{path}", document)
    for path in paths:
        wait_until(partial(served, up, path), "all workers serve the route")
    return paths


def test_no_request_fails_while_the_module_is_replaced(up: Up) -> None:
    up.upload("swapped", edition(1))
    with Clients(up, *bind(up, "swapped")) as clients:
        for number in range(2, 2 + SWAPS):
            up.upload("swapped", edition(number))
            wait_until(partial(clients.saw, number), f"edition {number} serves")
        up.write("POST", "wasm_plugins/swapped/rollback", json={"version": 1})
        before = clients.seen[200, "1"]
        wait_until(lambda: clients.seen[200, "1"] > before + 20, "edition 1 serves again")
    assert {status for status, _ in clients.seen} == {200}, clients.seen
    assert {number for _, number in clients.seen} == {str(number) for number in range(1, 2 + SWAPS)}


@pytest.mark.parametrize("define", ["TRAP_AT_START", "REFUSE_VM_START", "TRAP_AT_CONFIGURE", "REFUSE_CONFIGURE"])
def test_a_bad_module_leaves_the_good_one_serving_and_is_reported(up: Up, define: str) -> None:
    name = define.lower().replace("_", "-")
    up.upload(name, edition(1))
    paths = bind(up, name)
    up.log()
    reports: list[str] = []

    def reported() -> bool:
        events = [line for line in up.log() if line.get("key") == f"/apisix/wasm_plugins/{name}"]
        reports.extend(line["problem"] for line in events if line["event"] == "config item has a problem")
        return len(reports) >= WORKERS

    with Clients(up, *paths) as clients:
        # The control plane would refuse it.
        up.upload(name, edition(2, define), dry_run=False)
        wait_until(reported, "every worker says that it does not take the module")
        up.upload(name, edition(3))
        wait_until(lambda: clients.saw(3), "the next good one serves")
    assert {status for status, _ in clients.seen} == {200}, clients.seen
    assert {number for _, number in clients.seen} == {"1", "3"}
    for report in reports:
        assert "the new version does not run as the one in service does" in report
        assert "the last good version stays" in report
