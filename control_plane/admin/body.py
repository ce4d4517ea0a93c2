"""Request bodies: read within a limit, decoded strictly.

The law: never more than the limit is held in memory, whatever the client announces; JSON that is not strict is a 400
that says where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from control_plane.errors import AdminError, BadRequest
from shared.schema.document import DocumentError, decode
from shared.yaml_document import decode_yaml

# APISIX's limit, and etcd's default for one request.
MAX_BODY = 1_572_864
# Of a whole configuration: 100,000 routes of a kilobyte.
MAX_DOCUMENT = 134_217_728
# The longest excerpt of a refused body that is sent back.
ECHO = 1024


async def read_json(request: Request, missing: str) -> Any:  # noqa: ANN401 - a JSON text may be anything
    """The decoded body; `missing` is the message for a request without one."""
    data = await _read(request, MAX_BODY, _json_too_large)
    if not data:
        raise BadRequest(missing)
    return _decoded(data)


async def read_json_or(request: Request, default: object) -> Any:  # noqa: ANN401 - a JSON text may be anything
    """The decoded body, or `default` for a request without one."""
    data = await _read(request, MAX_BODY, _json_too_large)
    return _decoded(data) if data else default


async def read_document(request: Request, missing: str) -> Any:  # noqa: ANN401 - a document may be anything
    """The decoded body, as YAML where its type says so. A whole configuration may be larger than one request of the store."""
    data = await _read(request, MAX_DOCUMENT, _json_too_large)
    if not data:
        raise BadRequest(missing)
    if "yaml" not in request.headers.get("content-type", ""):
        return _decoded(data)
    try:
        return await asyncio.to_thread(decode_yaml, data)
    except DocumentError as error:
        raise BadRequest(f"invalid request body: {error}") from error


def _decoded(data: bytes) -> Any:  # noqa: ANN401 - a JSON text may be anything
    try:
        return decode(data)
    except DocumentError as error:
        raw = data[:ECHO].decode("utf-8", "replace")
        raise BadRequest(f"invalid request body: {error}", req_body=raw) from error


async def read_module(request: Request, limit: int) -> bytes:
    """The raw bytes of an uploaded module."""
    data = await _read(request, limit, _module_too_large)
    if not data:
        raise BadRequest("missing module: the body is the Wasm file")
    return data


def _json_too_large(size: int, limit: int) -> AdminError:
    text = f"invalid request body: request size {size} is greater than the maximum size {limit} allowed"
    return BadRequest(text)


def _module_too_large(size: int, limit: int) -> AdminError:
    return AdminError(413, {"error_msg": f"module size {size} is greater than the maximum size {limit} allowed"})


async def _read(request: Request, limit: int, refuse: Callable[[int, int], AdminError]) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise refuse(int(announced), limit)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise refuse(len(data), limit)
    return bytes(data)
