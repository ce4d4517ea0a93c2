"""What an answer says of an object: nothing that is secret, and APISIX's envelope around the rest.

The law: every value that leaves the control plane passes `public`.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from control_plane.admin import hidden
from control_plane.admin.difference import differences
from control_plane.admin.operations import Options, Outcome
from control_plane.admin.stored import own_part
from control_plane.errors import answer
from shared.schema.resources import Resource


def public(resource: Resource, object_id: str, value: object) -> object:
    return hidden.public(resource.kind, object_id, value)


def written(outcome: Outcome, options: Options) -> Response:
    """The answer to a write."""
    if options.simulate:
        return simulated((outcome,))
    value = public(outcome.operation.resource, outcome.id, outcome.value)
    response = answer(201 if outcome.created else 200, {"key": outcome.key, "value": value}, outcome.revision)
    return tagged(response, outcome.revision)


def simulated(outcomes: Sequence[Outcome]) -> Response:
    """What would have been written."""
    return answer(200, {"dry_run": True, "changes": [change_of(outcome) for outcome in outcomes]})


def change_of(outcome: Outcome) -> dict[str, object]:
    """A secret that changes is told as `secrets_change`, not shown."""
    resource = outcome.operation.resource
    before = None if outcome.before is None else own_part(outcome.before)
    after = None if outcome.value is None else own_part(outcome.value)
    shown = {"key": outcome.key, "action": outcome.action}
    found = differences(public(resource, outcome.id, before), public(resource, outcome.id, after))
    change: dict[str, object] = {**shown, "differences": [difference.document() for difference in found]}
    if len(differences(before, after)) != len(found):
        change["secrets_change"] = True
    return change


def tagged(response: Response, modified: int) -> Response:
    """With the modifiedIndex that `If-Match` takes."""
    response.headers["ETag"] = f'"{modified}"'
    return response
