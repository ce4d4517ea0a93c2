"""The plugins about traffic in a running gateway with two workers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from tests.support.command import wait_until
from tests.support.gateway import ScriptedUpstream, UpstreamSide, ok, upstream
from tests.support.up import Up, waspgate_up


def telling(name: str, seen: list[bytes] | None = None) -> Any:  # noqa: ANN401 - a server's side
    def serve(side: UpstreamSide) -> None:
        while head := side.head():
            if seen is not None:
                seen.append(head)
            side.send(ok(name.encode()))

    return serve


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, ScriptedUpstream]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(upstream(telling(name))) for name in ("own", "other")}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, ScriptedUpstream]) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    with waspgate_up(folder, servers["own"].port, workers=2, XDG_STATE_HOME=str(folder / "state")) as running:
        yield running


def route(up: Up, name: str, plugins: dict[str, Any], **more: object) -> str:
    """Its path, once both workers serve it."""
    up.put(f"routes/{name}", {"uri": f"/{name}", "plugins": plugins, "upstream": up.upstream, **more})
    # A worker applies writes in their order.
    up.put("routes/mark", {"uri": f"/mark-{name}", "upstream": up.upstream})
    wait_until(lambda: all(answer.status == 200 for answer in many(up, f"/mark-{name}", 12)), "both workers to serve it")
    return f"/{name}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


def ask(up: Up, path: str, method: str = "GET") -> Answer:
    """Over a connection of its own."""
    connection = HTTPConnection(up.listen, timeout=30)
    try:
        connection.request(method, path, headers={"Host": "any.test"})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read().decode())
    finally:
        connection.close()


def many(up: Up, path: str, times: int) -> list[Answer]:
    """Both workers get some."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: ask(up, path), range(times)))


@pytest.mark.parametrize("window_type", ["fixed", "sliding"])
def test_two_workers_let_no_more_through_than_the_count(up: Up, window_type: str) -> None:
    limit = {
        "count": 25,
        "time_window": 3600,
        "window_type": window_type,
        "rejected_code": 429,
        "key_type": "constant",
        "key": "all",
    }
    path = route(up, f"count-{window_type}", {"limit-count": limit})
    answers = many(up, path, 60)
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {200: 25, 429: 35}
    passed = sorted(int(answer.headers["X-RateLimit-Remaining"]) for answer in answers if answer.status == 200)
    assert passed == list(range(25))


def test_two_workers_let_no_more_in_at_once(up: Up) -> None:
    gate, inside = threading.Event(), threading.Semaphore(0)

    def held(side: UpstreamSide) -> None:
        while side.head():
            inside.release()
            gate.wait(20)
            side.send(ok(b"held"))

    with upstream(held) as server, ThreadPoolExecutor(12) as pool:
        conn = {"conn": 4, "burst": 0, "default_conn_delay": 0.1, "rejected_code": 429}
        path = route(up, "conn", {"limit-conn": conn}, upstream={"nodes": {f"127.0.0.1:{server.port}": 1}})
        asked = [pool.submit(ask, up, path) for _ in range(12)]
        for _ in range(4):
            assert inside.acquire(timeout=20)
        wait_until(lambda: sum(one.done() for one in asked) == 8, "the others to be refused")
        gate.set()
        assert Counter(one.result().status for one in asked) == {200: 4, 429: 8}
        wait_until(lambda: ask(up, path).status == 200, "all to be counted out")


def test_workers_keep_responses_for_each_other_and_a_purge_reaches_both(up: Up) -> None:
    for number, conf in enumerate(({"cache_strategy": "memory", "cache_zone": "memory_cache"}, {})):
        path = route(up, f"cache-{number}", {"proxy-cache": conf})
        labels = Counter(answer.headers["Apisix-Cache-Status"] for answer in many(up, path, 20))
        assert labels["HIT"] >= 4
        assert set(labels) <= {"HIT", "MISS"}
        assert {answer.headers["Apisix-Cache-Status"] for answer in many(up, path, 10)} == {"HIT"}
        assert ask(up, path, "PURGE").status == 200
        assert ask(up, path).headers["Apisix-Cache-Status"] == "MISS"


def test_requests_are_split_by_weight_and_by_what_they_say(up: Up, servers: dict[str, ScriptedUpstream]) -> None:
    up.put("upstreams/other", {"nodes": {f"127.0.0.1:{servers['other'].port}": 1}})
    other = {"nodes": {f"127.0.0.1:{servers['other'].port}": 1}}
    rules = [
        {"match": [{"vars": [["arg_to", "==", "other"]]}], "weighted_upstreams": [{"upstream_id": "other"}]},
        {"weighted_upstreams": [{"upstream": other, "weight": 1}, {"weight": 3}]},
    ]
    path = route(up, "split", {"traffic-split": {"rules": rules}})
    # One connection, so one worker.
    with httpx.Client(base_url=f"http://{up.listen}", headers={"Host": "t"}, trust_env=False) as client:
        assert Counter(client.get(path).text for _ in range(8)) == {"own": 6, "other": 2}
        assert {client.get(f"{path}?to=other").text for _ in range(4)} == {"other"}


def test_a_mirror_gets_a_copy_and_its_end_is_not_felt(up: Up) -> None:
    seen: list[bytes] = []
    with upstream(telling("mirror", seen)) as mirror:
        path = route(up, "mirror", {"proxy-mirror": {"host": f"http://127.0.0.1:{mirror.port}"}})
        assert ask(up, f"{path}?a=1").text == "own"
        wait_until(lambda: any(head.startswith(b"GET /mirror?a=1 ") for head in seen), "the copy to come")
    assert [ask(up, path).text for _ in range(3)] == ["own"] * 3


def test_an_upstream_that_fails_is_left_alone_by_both_workers(up: Up) -> None:
    asked: list[bytes] = []

    def failing(side: UpstreamSide) -> None:
        while head := side.head():
            asked.append(head)
            side.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    with upstream(failing) as server:
        breaker = {"break_response_code": 599, "unhealthy": {"failures": 3}, "max_breaker_sec": 300}
        path = route(up, "breaker", {"api-breaker": breaker}, upstream={"nodes": {f"127.0.0.1:{server.port}": 1}})
        statuses = [ask(up, path).status for _ in range(12)]
        assert statuses[:3] == [500] * 3
        assert statuses[-1] == 599
        assert len(asked) < 12
