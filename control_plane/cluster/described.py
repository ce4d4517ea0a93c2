"""What the OpenAPI document says of data planes and of waiting for them."""

from __future__ import annotations

from typing import Any, Final

_REFERENCE: Final = "#/components/schemas/"
_TEXT: Final = {"type": "string"}
_INDEX: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}
_BOOLEAN: Final = {"type": "boolean"}


def _object(required: dict[str, Any], **optional: object) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_WORKER = _object(
    {"worker": _INDEX, "pid": _INDEX, "started_at": _NUMBER, "revision": _INDEX, "ready": _BOOLEAN, "stale": _BOOLEAN},
    problems={"type": "object"},
    problems_total=_INDEX,
)
_DATA_PLANE = _object(
    {"id": _TEXT, "host": _TEXT, "version": _TEXT, "listen": _TEXT, "workers": _INDEX, "applied_revision": _INDEX},
    started_at=_NUMBER,
    ready=_BOOLEAN,
    stale=_BOOLEAN,
    live_workers=_array(_WORKER),
)
_UNSERVED = _array(_object({"reason": _TEXT}, data_plane=_TEXT, host=_TEXT, worker=_INDEX, pid=_INDEX, revision=_INDEX))
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "DataPlane": _DATA_PLANE,
    "DataPlanes": _object({"total": _INDEX, "list": _array(_DATA_PLANE)}),
    "NotApplied": _object({"error_msg": _TEXT, "applied": _INDEX, "refused": _UNSERVED, "late": _UNSERVED}),
}

_PARAMETERS: Final[list[dict[str, Any]]] = [
    {
        "name": "wait",
        "in": "query",
        "required": False,
        "description": "`applied`: answer when every live worker serves the write",
        "schema": {"type": "string", "enum": ["applied"]},
    },
    {
        "name": "timeout",
        "in": "query",
        "required": False,
        "description": "how many seconds to wait for that, 10 unless said",
        "schema": {"type": "number", "minimum": 0, "maximum": 300},
    },
]
_NOT_APPLIED: Final = {"application/json": {"schema": {"$ref": f"{_REFERENCE}NotApplied"}}}
_RESPONSES: Final[dict[str, Any]] = {
    "502": {"description": "With `wait=applied`: written, but a worker cannot use it", "content": _NOT_APPLIED},
    "504": {"description": "With `wait=applied`: written, but not served by all in time", "content": _NOT_APPLIED},
}
# What an operation answers with that has written something.
CONFIRMED: Final = ("Written", "Deleted", "ModuleReport", "RolledBack", "Transacted", "ConfigsWritten")
_CONFIRMATIONS: Final = {f"{_REFERENCE}{shape}" for shape in CONFIRMED}


def describe_waiting(operation: dict[str, Any]) -> None:
    """Of an operation that can be waited for."""
    if any(_shape(answer) in _CONFIRMATIONS for status, answer in operation["responses"].items() if status[0] == "2"):
        operation.setdefault("parameters", []).extend(_PARAMETERS)
        operation["responses"].update(_RESPONSES)


def _shape(answer: dict[str, Any]) -> str | None:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    found: str | None = schema.get("$ref")
    return found
