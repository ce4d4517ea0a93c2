"""What plugins share: all workers of a host count in one number and lose nothing, and each queued item is announced once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from tests.support.command import wait_until
from tests.support.guest import build
from tests.support.up import waspgate_up

SOURCE = Path(__file__).parents[1] / "support" / "guest_sources" / "counter.c"
REQUESTS = 400
CLIENTS = 8


def test_two_workers_count_every_request_of_eight_clients_once(tmp_path: Path) -> None:
    with waspgate_up(tmp_path, upstream_port=1, workers=2) as up:
        up.upload("counter", build(SOURCE.read_text()))
        up.put("routes/count", {"uri": "/count", "plugins": {"counter": {"conf": "on"}}, "upstream": up.upstream})
        wait_until(lambda: up.get("/count").status_code == 200, "the workers have the plugin")
        before = int(up.get("/count").text)

        def count(_: int) -> int:
            # A connection each: the kernel spreads them over the workers.
            connection = HTTPConnection(up.listen, timeout=30)
            connection.request("GET", "/count")
            try:
                return int(connection.getresponse().read())
            finally:
                connection.close()

        with ThreadPoolExecutor(CLIENTS) as clients:
            numbers = list(clients.map(count, range(REQUESTS)))
        assert sorted(numbers) == list(range(before + 1, before + 1 + REQUESTS))

        announced: list[int] = []

        def all_announced() -> bool:
            announced.extend(int(line["event"]) for line in up.log() if line["event"].isdigit())
            return len(announced) >= before + REQUESTS

        wait_until(all_announced, "every number came out of the queue")
        assert sorted(announced) == list(range(1, before + 1 + REQUESTS))
