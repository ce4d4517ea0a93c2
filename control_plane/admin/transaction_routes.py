"""`POST /apisix/admin/transaction`: many objects, all or nothing, one revision.

The law: what a worker sees of it, it sees at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from control_plane.admin.answers import public, simulated
from control_plane.admin.body import read_json
from control_plane.admin.openapi import FAILURES, REFERENCE, response
from control_plane.admin.operations import Outcome
from control_plane.admin.options import Unmatched
from control_plane.admin.refusal import Refused
from control_plane.admin.resources import Resources
from control_plane.admin.transactions import TransactionSpec, operations_of, placed
from control_plane.errors import answer
from shared.schema.resources import validate


class TransactionRoutes:
    __slots__ = ("_resources",)

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def register(self, router: APIRouter) -> None:
        router.add_api_route("/transaction", self.run, methods=["POST"], tags=["transaction"], **_DESCRIBED)

    async def run(self, request: Request, options: Unmatched) -> Response:
        spec = validate(TransactionSpec, await read_json(request, "missing operations"))
        try:
            committed = await self._resources.run(operations_of(spec), replace(options, several=True))
        except Refused as refused:
            raise placed(refused) from refused
        if options.simulate:
            return simulated(committed.outcomes)
        results = [_result(outcome) for outcome in committed.outcomes]
        return answer(200, {"revision": committed.revision, "results": results}, committed.revision)


def _result(outcome: Outcome) -> dict[str, object]:
    shown: dict[str, object] = {"key": outcome.key, "action": outcome.action}
    if outcome.value is not None:
        shown["value"] = public(outcome.operation.resource, outcome.id, outcome.value)
    return shown


_EXAMPLE = {
    "operations": [
        {"method": "PUT", "path": "/upstreams/blue", "body": {"nodes": {"127.0.0.1:9099": 1}}},
        {"method": "PUT", "path": "/routes/blue", "body": {"uri": "/blue", "upstream_id": "blue"}},
    ]
}
_DESCRIBED: dict[str, Any] = {
    "summary": "Write many objects: all of them in one revision, or none",
    "operation_id": "post_transaction",
    "responses": {
        200: response("What was written, or with `dry_run=true` would be", "Transacted"),
        404: response("An operation names what is not there", "Error"),
        405: response("An operation's kind does not take its method", "Error"),
        412: response("An object is not what `if_match` says", "Error"),
        413: response("More than one transaction of the store can hold", "Error"),
        **FAILURES,
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": REFERENCE.format(model="TransactionSpec")},
                    "example": _EXAMPLE,
                }
            },
        }
    },
}
