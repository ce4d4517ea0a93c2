"""The page of operations and schemas: complete without a network, open without a key, true to what the server does."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from control_plane.admin.openapi import EXAMPLES
from shared.keys import Kind
from shared.schema.resources import RESOURCES, validate
from tests.support.admin import Admin

PAGE = "http://admin/apisix/admin/docs"
REFERENCE = re.compile(r"""(?:src|href)="([^"]*)"|url: "([^"]*)\"""")


async def test_the_page_refers_only_to_this_server_which_has_it_all(api: Admin) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app)) as client:
        page = await client.get(PAGE)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        found = references(page.text)
        assert len(found) == 3
        start = next(reference for reference in found if reference.endswith("start.js"))
        found |= references((await client.get(start)).text)
        for reference in found:
            assert reference.startswith("http://admin/"), reference
            answer = await client.get(reference)
            assert answer.status_code == 200, reference
            assert answer.content, reference


def references(text: str) -> set[str]:
    """What a browser fetches, as absolute URLs."""
    found = {urljoin(PAGE, source or url) for source, url in REFERENCE.findall(text)}
    return {reference for reference in found if not reference.startswith("data:")}


async def test_nothing_else_lies_beside_the_page(api: Admin) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app)) as client:
        for name in ("redoc.standalone.js", "../../etc/passwd", "%2e%2e/core.py", ""):
            answer = await client.get(f"{PAGE}/{name}")
            assert answer.status_code in (401, 404), name


def test_the_document_announces_only_what_the_server_answers(api: Admin) -> None:
    document: dict[str, Any] = api.app.openapi()

    announced = {
        status for verbs in document["paths"].values() for described in verbs.values() for status in described["responses"]
    }
    successes, mistakes = {"200", "201", "202", "204"}, {"400", "401", "403", "404", "405", "412", "413", "429"}
    assert announced == {*successes, *mistakes, "502", "503", "504"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.parametrize("kind", RESOURCES)
def test_every_example_is_valid(kind: Kind) -> None:
    validate(RESOURCES[kind].model, EXAMPLES[kind])
