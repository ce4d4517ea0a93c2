"""Where the objects of a kind are in the Admin API, and which id a request's path names.

The law: an id of two parts stands in the path as its key does in the store: `vault/1` is `/secrets/vault/1`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from control_plane.errors import BadRequest
from shared.keys import IN_TWO_PARTS, Kind
from shared.schema.common import ID_PATTERN
from shared.schema.errors import excerpt
from shared.schema.resources import RESOURCES, Resource

ID_LENGTH = 64
USERNAME_LENGTH = 256
# Kinds whose ids begin with a consumer's name.
WITH_USERNAME: tuple[Kind, ...] = ("consumers", "credentials")
_ID = re.compile(ID_PATTERN)
# What the first part of an id of two parts is called.
OWNERS: dict[Kind, str] = {"secrets": "manager", "credentials": "username"}


@dataclass(frozen=True, slots=True)
class Paths:
    """Templates below /apisix/admin."""

    all: str
    one: str
    owner: str | None = None

    @classmethod
    def of(cls, kind: Kind) -> Paths:
        if kind not in IN_TWO_PARTS:
            return cls(f"/{kind}", f"/{kind}/{{id}}")
        folder, inner = IN_TWO_PARTS[kind]
        owner = OWNERS[kind]
        if inner is None:
            return cls(f"/{folder}", f"/{folder}/{{{owner}}}/{{id}}", owner)
        return cls(f"/{folder}/{{{owner}}}/{inner}", f"/{folder}/{{{owner}}}/{inner}/{{id}}", owner)

    @property
    def names(self) -> tuple[str, ...]:
        return ("id",) if self.owner is None else (self.owner, "id")


def id_in_path(request: Request) -> str:
    names = (*OWNERS.values(), "id")
    return "/".join(request.path_params[name] for name in names if name in request.path_params)


def owner_in_path(request: Request) -> str | None:
    """Of a list that is one owner's."""
    return next((request.path_params[name] for name in OWNERS.values() if name in request.path_params), None)


ObjectId = Annotated[str, Depends(id_in_path)]
OwnerId = Annotated[str | None, Depends(owner_in_path)]


def checked_id(resource: Resource, object_id: str) -> str:
    """The id when an object may have it; raises BadRequest."""
    parts = object_id.split("/")
    if not all(parts) or len(parts) != (2 if resource.kind in IN_TWO_PARTS else 1):
        raise missing_id(resource)
    for part in parts:
        longest = USERNAME_LENGTH if resource.kind in WITH_USERNAME and part is parts[0] else ID_LENGTH
        if len(part) > longest or not _ID.fullmatch(part):
            expected = f'1 to {longest} characters that match "{ID_PATTERN}"'
            raise BadRequest(
                f'invalid configuration: property "id" validation failed: expected {expected}, got {excerpt(part)}'
            )
    return object_id


def missing_id(resource: Resource) -> BadRequest:
    return BadRequest(f"missing {resource.singular} id")


def named(kind: str) -> Resource | None:
    """By its plural or singular name."""
    return next((resource for resource in RESOURCES.values() if kind in (resource.kind, resource.singular)), None)
