"""Schemas of kinds, and documents held to them."""

from __future__ import annotations

import pytest

from shared.schema.resources import RESOURCES
from tests.support.admin import NODES, Admin


async def test_every_kind_has_a_schema_under_both_names(api: Admin) -> None:
    for resource in RESOURCES.values():
        assert await api.ok("GET", f"/schema/{resource.kind}") == await api.ok("GET", f"/schema/{resource.singular}")
    assert await api.refused(400, "GET", "/schema/routs") == "not found schema: routs"


async def test_a_document_that_fits(api: Admin) -> None:
    for kind, document in (("routes", {"id": 1, "uri": "/a", "upstream_id": "nobody"}), ("consumer", {"username": "jack"})):
        answer = await api.call("POST", f"/schema/validate/{kind}", document)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("kind", "document", "message"),
    [
        ("routes", {"uri": 5, "upstream": NODES}, 'property "uri" validation failed: wrong type: expected string, got number'),
        ("upstream", {}, "nodes"),
        ("consumers", {}, '"username" is required'),
        ("routs", {}, "not found schema: routs"),
    ],
)
async def test_a_document_that_does_not(api: Admin, kind: str, document: object, message: str) -> None:
    assert message in await api.refused(400, "POST", f"/schema/validate/{kind}", document)
