"""The one request that every proxy gets, and what makes its answer right.

The law: all proxies see the same paths, headers and body; a wrong answer ends the run, because its cost means nothing.
"""

from __future__ import annotations

from tests.bench.errors import BenchError
from tests.bench.server import Server
from tests.bench.works import Work

ROUTES = 1000
BODY = b"x" * 99 + b"\n"
# What the upstream answers, by resource.
BODIES = {"item": BODY, "64k": b"x" * (64 << 10), "big": b"x" * (1 << 20), "10m": b"x" * (10 << 20)}
# What the plugin of plugins/c/headers sets in the response.
RESPONSE_HEADER, RESPONSE_VALUE = "x-resp", "hello"
# With this query the upstream says what the plugin added to the request, instead of the plain body.
ECHO = "echo=1"


def uri(route: int) -> str:
    """The pattern of a route as configured."""
    return f"/route-{route}/*"


def path(route: int, resource: str = "item") -> str:
    """A path that this route matches; load.lua builds the same."""
    return f"/route-{route}/{resource}"


def check(server: Server, work: Work) -> None:
    """Raises BenchError unless the proxy passes the body and the plugins did their work, or were not there."""
    answer = server.get(path(ROUTES - 1, work.resource))
    _expect(server, "status", answer.status, 200)
    body = BODIES[work.resource]
    _expect(server, "body", answer.body, body.swapcase() if work.guest == "body" else body)
    added = work.plugins if work.guest == "headers" else 0
    _expect(server, RESPONSE_HEADER, answer.headers.get(RESPONSE_HEADER), RESPONSE_VALUE if added else None)
    if work.resource == "item":
        target = f"{path(ROUTES - 1)}?{ECHO}"
        said = "asked" if work.guest == "callout" else target if added else ""
        # nginx shows the first of several fields with a name, or all of them, by its version.
        echo = server.get(target).body.decode().partition(",")[0].strip()
        _expect(server, "echo of the request", echo, f"x-plugin: {said}".strip())


def _expect(server: Server, what: str, got: object, expected: object) -> None:
    if got != expected:
        raise BenchError(f"{server.name} answers with a wrong {what}: expected {expected!r}, got {got!r}")
