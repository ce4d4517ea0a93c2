"""Several writes as one document: what it says, as operations of the writer.

The law: an operation is a request of its own in all but its time; a mistake stands under the path that it has in the document.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from control_plane.admin.locating import Place, locate
from control_plane.admin.operations import ANY, Match, Operation, Removal
from control_plane.admin.patch import merging, setting
from control_plane.admin.paths import checked_id, missing_id
from control_plane.admin.refusal import Refused, collect
from control_plane.admin.resources import patching, posting, putting
from control_plane.errors import AdminError, BadRequest
from shared.schema.common import Array, Maybe, Spec, Text
from shared.schema.resources import Resource


class OperationSpec(Spec):
    """`path` as in a request, with or without /apisix/admin; `if_match` is a modifiedIndex, 0: there must be no object yet."""

    method: Literal["PUT", "POST", "PATCH", "DELETE"]
    path: Text
    body: Any = None
    if_match: Maybe[Annotated[int, Field(ge=0)]] = None
    force: bool = False


class TransactionSpec(Spec):
    operations: Annotated[Array[OperationSpec], Field(min_length=1)]


def operations_of(spec: TransactionSpec) -> list[Operation]:
    """Raises Refused with the mistakes of all of them."""
    return collect(spec.operations, _operation)


def _operation(spec: OperationSpec) -> Operation:
    place = locate(spec.path)
    resource = place.resource
    if spec.method not in resource.verbs:
        raise blocked(resource, spec.method)
    match = ANY if spec.if_match is None else Match(revision=spec.if_match)
    if spec.method == "DELETE":
        return Removal(resource, _id(place), spec.force, match)
    if "body" not in spec.model_fields_set:
        raise BadRequest("missing new configuration" if spec.method == "PATCH" else "missing configurations")
    if spec.method == "PATCH":
        change = setting(place.sub_path, spec.body) if place.sub_path else merging(spec.body)
        return patching(resource, _id(place), change, match)
    if place.sub_path or (spec.method == "POST" and place.id is not None):
        raise AdminError(404, {"error_msg": "not found"})
    if spec.method == "POST":
        return posting(resource, spec.body)
    return putting(resource, _id_or_own(place, spec.body), spec.body, match)


def _id(place: Place) -> str:
    if place.id is None:
        raise missing_id(place.resource)
    return place.id


def _id_or_own(place: Place, body: object) -> str:
    if place.id is not None:
        return place.id
    given = body.get(place.resource.id_property) if isinstance(body, dict) else None
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise missing_id(place.resource)
    return checked_id(place.resource, str(given))


def blocked(resource: Resource, method: str) -> AdminError:
    return AdminError(405, {"error_msg": f"not supported `{method}` method for {resource.singular}"})


def placed(refused: Refused) -> AdminError:
    """The refusal with the paths that its mistakes have in the document."""
    mistakes = [
        {**mistake, "index": number, "path": f"$.operations[{number}].body{str(mistake['path'])[1:]}"}
        for number, mistake in refused.mistakes
    ]
    text = "; ".join(f"operation {number}: {mistake['message']}" for number, mistake in refused.mistakes)
    return AdminError(refused.status, {"error_msg": text, "errors": mistakes})
