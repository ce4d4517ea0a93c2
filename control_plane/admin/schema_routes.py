"""Schemas of kinds, and whether a document fits one.

The law: a document is held to the same model as a write of it; what it refers to is not looked for.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from control_plane.admin.body import read_json
from control_plane.admin.openapi import FAILURES
from control_plane.admin.paths import named
from control_plane.admin.stored import own_part, without
from control_plane.errors import BadRequest, answer
from shared.schema.resources import TIMESTAMPS, Resource, json_schema, validate


def register(router: APIRouter) -> None:
    described: dict[str, Any] = {"tags": ["schema"], "responses": FAILURES}
    router.add_api_route("/schema/{kind}", schema, methods=["GET"], summary="The JSON Schema of a kind", **described)
    router.add_api_route(
        "/schema/validate/{kind}", check, methods=["POST"], summary="Whether a document fits its kind", **described
    )


async def schema(kind: str) -> Response:
    """By the singular or plural name."""
    return answer(200, json_schema(_named(kind).kind))


async def check(kind: str, request: Request) -> Response:
    resource = _named(kind)
    document = await read_json(request, "missing configurations")
    if isinstance(document, dict):
        # An id may stand in the body of a write.
        document = own_part(document) if resource.id_property == "id" else without(document, TIMESTAMPS)
    validate(resource.model, document)
    return Response(status_code=200, media_type="application/json")


def _named(kind: str) -> Resource:
    resource = named(kind)
    if resource is None:
        raise BadRequest(f"not found schema: {kind}")
    return resource
