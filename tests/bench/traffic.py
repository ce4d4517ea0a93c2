"""The one request that every proxy gets, and what makes its answer right.

The law: all proxies see the same paths, headers and body; a wrong answer ends the run, because its cost means nothing.
"""

from __future__ import annotations

from tests.bench.errors import BenchError
from tests.bench.server import Server

ROUTES = 1000
BODY = b"x" * 99 + b"\n"
# What the plugin of plugins/c/headers sets in the response.
RESPONSE_HEADER, RESPONSE_VALUE = "x-resp", "hello"
# With this query the upstream says what the plugin added to the request, instead of the plain body.
ECHO = "echo=1"


def uri(route: int) -> str:
    """The pattern of a route as configured."""
    return f"/route-{route}/*"


def path(route: int) -> str:
    """A path that this route matches; load.lua builds the same."""
    return f"/route-{route}/item"


def check(server: Server, *, has_plugin: bool) -> None:
    """Raises BenchError unless the proxy passes the body and the plugin did its work on both heads, or was not there."""
    answer = server.get(path(ROUTES - 1))
    _expect(server, "status", answer.status, 200)
    _expect(server, "body", answer.body, BODY)
    _expect(server, RESPONSE_HEADER, answer.headers.get(RESPONSE_HEADER), RESPONSE_VALUE if has_plugin else None)
    target = f"{path(ROUTES - 1)}?{ECHO}"
    expected = f"x-plugin: {target if has_plugin else ''}\n".encode()
    _expect(server, "echo of the request", server.get(target).body, expected)


def _expect(server: Server, what: str, got: object, expected: object) -> None:
    if got != expected:
        raise BenchError(f"{server.name} answers with a wrong {what}: expected {expected!r}, got {got!r}")
