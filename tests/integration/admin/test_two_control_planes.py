"""Two control planes over one store, hammering the same keys: nothing is lost, nothing dangles, nothing is half done."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.store.url import open_store
from tests.support.admin import NODES, Admin, admin


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[tuple[Admin, Admin]]:
    url = f"sqlite:///{tmp_path}/config.db"
    async with open_store(url) as one, open_store(url) as other, admin(one) as first, admin(other) as second:
        yield first, second


async def test_if_match_counts_right(planes: tuple[Admin, Admin]) -> None:
    """Whoever reads, adds one and writes under If-Match, until it is taken."""
    await planes[0].ok("PUT", "/upstreams/u", {**NODES, "desc": "0"})

    async def add(api: Admin) -> None:
        while True:
            read = await api.call("GET", "/upstreams/u")
            number = int(read.json()["value"]["desc"]) + 1
            written = await api.http.patch(
                "/upstreams/u", json={"desc": str(number)}, headers={"If-Match": read.headers["ETag"]}
            )
            assert written.status_code in (200, 412)
            if written.status_code == 200:
                return

    await asyncio.gather(*(add(planes[number % 2]) for number in range(20)))

    assert (await planes[1].ok("GET", "/upstreams/u"))["value"]["desc"] == "20"


async def test_everything_at_once_leaves_nothing_dangling(planes: tuple[Admin, Admin]) -> None:
    """Transactions make a route with its upstream or take both away; single writes and whole configurations come between."""
    chance = random.Random(7)

    def make(number: int) -> object:
        upstream = {"method": "PUT", "path": f"/upstreams/{number}", "body": NODES}
        route = {"method": "PUT", "path": f"/routes/{number}", "body": {"uri": f"/{number}", "upstream_id": str(number)}}
        return {"operations": chance.sample([upstream, route], 2)}

    def take(number: int) -> object:
        return {"operations": [{"method": "DELETE", "path": f"/{kind}/{number}"} for kind in ("upstreams", "routes")]}

    async def one(step: int) -> None:
        api, number = planes[step % 2], chance.randrange(4)
        kind = chance.randrange(5)
        if kind < 2:
            answer = await api.call("POST", "/transaction", make(number) if kind else take(number))
        elif kind == 2:
            answer = await api.call("DELETE", f"/upstreams/{number}")
        elif kind == 3:
            answer = await api.call("PUT", f"/routes/{number}", {"uri": "/x", "upstream_id": str(chance.randrange(4))})
        else:
            route = {"id": "9", "uri": "/9", "upstream_id": str(number)}
            document = {"upstreams": [{"id": str(number), **NODES}], "routes": [route]}
            answer = await api.http.put("/configs", json=document, headers={"X-Digest": f"{step}"})
        assert answer.status_code in (200, 201, 202, 204, 400, 404), answer.text

    for begin in range(0, 60, 12):
        await asyncio.gather(*(one(step) for step in range(begin, begin + 12)))
        upstreams = {item["value"]["id"] for item in (await planes[0].ok("GET", "/upstreams"))["list"]}
        routes = (await planes[1].ok("GET", "/routes"))["list"]
        assert {item["value"]["upstream_id"] for item in routes} <= upstreams


async def test_history_has_every_version(planes: tuple[Admin, Admin]) -> None:
    writes = [planes[number % 2].call("PUT", "/upstreams/u", {**NODES, "desc": str(number)}) for number in range(10)]
    revisions = [int(answer.headers["X-Waspgate-Revision"]) for answer in await asyncio.gather(*writes)]

    listed = (await planes[0].ok("GET", "/upstreams/u/history"))["list"]

    assert [version["revision"] for version in listed] == sorted(revisions, reverse=True)
    assert sorted(version["value"]["desc"] for version in listed) == [str(number) for number in range(10)]
