"""Lists: pages and filters."""

from __future__ import annotations

import pytest

from tests.support.admin import NODES, Admin


@pytest.fixture
async def filled(api: Admin) -> Admin:
    await api.ok("PUT", "/upstreams/u", NODES)
    await api.ok("PUT", "/services/s", {"upstream_id": "u"})
    for number in range(25, 0, -1):
        await api.ok(
            "PUT",
            f"/routes/{number}",
            {
                "uris": [f"/x{number}", f"/y{number}"],
                "name": f"route-{number}",
                "labels": {"odd" if number % 2 else "even": "yes"},
                **({"service_id": "s"} if number > 20 else {"upstream_id": "u"}),
            },
        )
    await api.ok("PUT", "/routes/nameless", {"uri": "/plain", "upstream_id": "u"})
    return api


@pytest.mark.parametrize(
    ("query", "total", "ids"),
    [
        ("", 26, [*map(str, range(25, 0, -1)), "nameless"]),
        ("page=1&page_size=10", 26, [*map(str, range(25, 15, -1))]),
        ("page=3&page_size=10", 26, ["5", "4", "3", "2", "1", "nameless"]),
        ("page=4&page_size=10", 26, []),
        ("page=0&page_size=10", 26, [*map(str, range(25, 15, -1))]),
        ("page=-3&page_size=10", 26, [*map(str, range(25, 15, -1))]),
        ("page=2", 26, [*map(str, range(25, 0, -1)), "nameless"]),
        ("page_size=3", 26, [*map(str, range(25, 0, -1)), "nameless"]),
        ("name=route-2$", 1, ["2"]),
        ("name=te-1", 11, ["19", "18", "17", "16", "15", "14", "13", "12", "11", "10", "1"]),
        ("name=nil", 0, []),
        ("label=even&name=2", 5, ["24", "22", "20", "12", "2"]),
        ("label=missing", 0, []),
        ("uri=y7", 1, ["7"]),
        ("uri=^/plain$", 1, ["nameless"]),
        ("filter=service_id%3Ds", 5, ["25", "24", "23", "22", "21"]),
        ("filter=service_id%3Ds%26upstream_id%3Du", 0, []),
        ("filter=unknown%3Dx&uri=y7", 1, ["7"]),
    ],
)
async def test_filters_and_pages(filled: Admin, query: str, total: int, ids: list[str]) -> None:
    answer = await filled.ok("GET", f"/routes?{query}")

    assert [item["value"]["id"] for item in answer["list"]] == ids
    assert answer["total"] == total


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("page=1&page_size=9", "page_size must be between 10 and 500"),
        ("page=1&page_size=501", "page_size must be between 10 and 500"),
        ("page=x&page_size=10", "invalid argument page: should be a number"),
        ("page=1&page_size=", "invalid argument page_size: should be a number"),
        ("name=(", "invalid argument name: not a regular expression"),
        ("uri=[", "invalid argument uri: not a regular expression"),
        ("name=" + "a" * 257, "invalid argument name: expected at most 256 characters, got 257"),
    ],
)
async def test_parameters_that_make_no_sense(api: Admin, query: str, message: str) -> None:
    assert message in await api.refused(400, "GET", f"/routes?{query}")
