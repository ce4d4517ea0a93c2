"""Which object a path of the Admin API names, for documents that speak of several.

The law: a path means here what it means in a request of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from control_plane.admin.paths import checked_id
from control_plane.errors import AdminError
from shared.keys import IN_TWO_PARTS
from shared.schema.resources import RESOURCES, Resource

PREFIX = "/apisix/admin/"


@dataclass(frozen=True, slots=True)
class Place:
    """`id` is None where the path names a kind only; `sub_path` is what comes after the id."""

    resource: Resource
    id: str | None
    sub_path: str = ""


def locate(path: str) -> Place:
    """Raises AdminError as a request for this path would."""
    parts = [unquote(part) for part in path.removeprefix(PREFIX).strip("/").split("/")]
    for kind, (folder, inner) in IN_TWO_PARTS.items():
        if parts[0] != folder or (inner is not None and parts[2:3] != [inner]):
            continue
        own = parts[3:] if inner is not None else parts[2:]
        # A credential can not be written without its id; `/secrets` alone is the kind.
        if own or len(parts) == 1:
            return _place(RESOURCES[kind], [f"{parts[1]}/{own[0]}", *own[1:]] if own else [])
        return _place(RESOURCES[kind], ["/".join(parts[1:])])
    resource = RESOURCES.get(parts[0])  # type: ignore[call-overload]  # any text may be asked for
    if resource is None:
        raise AdminError(404, {"error_msg": f"Unsupported resource type: {parts[0]}"})
    return _place(resource, parts[1:])


def _place(resource: Resource, parts: list[str]) -> Place:
    if not parts:
        return Place(resource, None)
    return Place(resource, checked_id(resource, parts[0]), "/".join(parts[1:]))
