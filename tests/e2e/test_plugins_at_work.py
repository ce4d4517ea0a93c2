"""The example plugins in a gateway of two workers: one server is the upstream, the service that is asked and the collector."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.command import wait_until
from tests.support.examples import BUILT
from tests.support.gateway import UpstreamSide, ok, upstream
from tests.support.up import Up, waspgate_up

DAY = 86_400
REQUESTS, LIMIT, CLIENTS = 120, 50, 8
LENGTH = re.compile(rb"(?i)content-length: (\d+)")
NO = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\nx-reason: unknown\r\n\r\nnobody"


class Server:
    """Agrees to the bearer of `good`, keeps what it is given to collect, and says whom it served."""

    def __init__(self) -> None:
        self.collected: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def __call__(self, side: UpstreamSide) -> None:
        while head := side.head():
            path = head.split(b" ")[1]
            if path == b"/logs":
                body = side.body(int(LENGTH.findall(head)[0]))
                with self._lock:
                    self.collected += [json.loads(line) for line in body.splitlines()]
                side.send(ok(b""))
            elif path == b"/check":
                side.send(ok(b"", b"x-user: alice") if b"authorization: good" in head.lower() else NO)
            else:
                user = b"alice" if b"x-user: alice" in head.lower() else b"somebody"
                side.send(ok(user))


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Up]:
    with upstream(server) as scripted, waspgate_up(tmp_path_factory.mktemp("up"), scripted.port, workers=2) as started:
        started.put("upstreams/auth", started.upstream)
        started.put("upstreams/collector", started.upstream)
        yield started


def serve(up: Up, name: str, conf: object) -> None:
    """A route for the plugin, at /NAME, until both workers have it."""
    up.upload(name, next(BUILT.glob(f"*-{name}.wasm")).read_bytes(), dry_run=False)
    up.put(f"routes/{name}?dry_run=false", {"uri": f"/{name}", "plugins": {name: {"conf": conf}}, "upstream": up.upstream})
    up.put(f"routes/after-{name}", {"uri": f"/after-{name}", "upstream": up.upstream})
    # A connection each: the kernel spreads them over the workers, and so many never meet one worker only.
    wait_until(lambda: all(up.get(f"/after-{name}").status_code == 200 for _ in range(24)), f"the workers have {name}")


def test_the_workers_let_exactly_as_many_requests_pass_as_the_limit_says(up: Up) -> None:
    serve(up, "rate-limit", {"limit": LIMIT, "window_seconds": DAY})
    begun = time.time() // DAY
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(lambda _: up.get("/rate-limit").status_code, range(REQUESTS)))
    # At midnight two windows may have been counted.
    windows = int(time.time() // DAY - begun) + 1
    assert answers.count(429) == REQUESTS - answers.count(200)
    assert LIMIT <= answers.count(200) <= LIMIT * windows


def test_a_request_waits_for_the_service_and_goes_on_or_ends(up: Up) -> None:
    conf = {"upstream": "auth", "path": "/check", "send_headers": ["authorization"], "upstream_headers": ["x-user"]}
    serve(up, "callout-auth", {**conf, "client_headers": ["x-reason"]})
    refused, agreed = (
        httpx.get(f"http://{up.listen}/callout-auth", headers={"authorization": word}, trust_env=False)
        for word in ("bad", "good")
    )
    assert (refused.status_code, refused.text, refused.headers["x-reason"]) == (403, "nobody", "unknown")
    assert (agreed.status_code, agreed.text) == (200, "alice")


def test_every_request_is_collected_once(up: Up, server: Server) -> None:
    conf = {"upstream": "collector", "path": "/logs", "interval_ms": 20, "batch": 7}
    serve(up, "request-log", conf)
    for number in range(40):
        assert up.get(f"/request-log?{number}").text == "somebody"
    wanted = {f"/request-log?{number}" for number in range(40)}
    wait_until(lambda: wanted <= {line["path"] for line in server.collected}, "all lines are collected")
    collected = [line["path"] for line in server.collected if line["path"] in wanted]
    assert len(collected) == len(wanted)
