"""What a route asks of a request beyond its method, host and path: who sends it, and what its variables say.

The law: addresses are looked at first, because they cost least and never wait for the body.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.expression.addresses import AddressSet
from shared.expression.language import Expression
from shared.expression.request import RequestVariables
from shared.path_pattern import PathPattern


@dataclass(frozen=True, slots=True)
class Requirement:
    """None: it may be anything."""

    remote_addrs: AddressSet | None
    vars: Expression | None

    def admits(self, request: RequestVariables, pattern: PathPattern) -> bool:
        """`pattern` is the one that the path has met. Raises BodyNeeded."""
        if self.remote_addrs is not None and request.client_address[0] not in self.remote_addrs:
            return False
        if self.vars is None:
            return True
        request.parameters = pattern.captures(request.path)
        return self.vars.matches(request)
