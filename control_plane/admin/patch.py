"""PATCH on JSON documents, pure.

The law: nothing given is changed, the result is new. A merge follows RFC 7396: objects merge, null deletes, anything
else replaces. A sub-path sets (or with null deletes) one place, and makes the objects on the way to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control_plane.admin.operations import Change
from control_plane.errors import BadRequest
from shared.schema.document import MAX_DEPTH, DocumentError, check_depth
from shared.schema.errors import excerpt


class SubPathError(ValueError):
    """The path leads through something that is no object, or too deep."""


def merge(target: object, patch: object) -> object:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def set_at(target: object, path: Sequence[str], value: object) -> object:
    """`value` at `path`; an empty path replaces everything. Raises SubPathError."""
    if not path:
        return value
    if not isinstance(target, dict) or len(path) > MAX_DEPTH:
        raise SubPathError("/".join(path))
    changed: dict[str, Any] = dict(target)
    name, rest = path[0], path[1:]
    if rest:
        changed[name] = set_at(changed.get(name, {}), rest, value)
    elif value is None:
        changed.pop(name, None)
    else:
        changed[name] = value
    return changed


def split(sub_path: str) -> list[str]:
    """`a//b/` names the same place as `a/b`."""
    return [part for part in sub_path.split("/") if part]


def merging(patch: object) -> Change:
    """A merge as a change of an object. Raises BadRequest."""
    if not isinstance(patch, dict):
        raise BadRequest(f"wrong type: expected object, got {excerpt(patch)}")
    return lambda previous: merge(previous, patch)


def setting(sub_path: str, value: object) -> Change:
    """A value at a sub-path as a change of an object, which raises BadRequest."""

    def change(previous: dict[str, Any] | None) -> object:
        try:
            changed = set_at(previous, split(sub_path), value)
            check_depth(changed)
        except SubPathError as error:
            raise BadRequest(f"invalid sub-path: /{sub_path}") from error
        except DocumentError as error:
            raise BadRequest(f"invalid configuration: {error}") from error
        return changed

    return change
