"""The admin key: whoever shows it may do everything, nobody else may do anything.

The law: there is no default key, and comparing takes the same time wherever the keys differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hmac import compare_digest

from fastapi import Security
from fastapi.security import APIKeyHeader

from control_plane.errors import AdminError

HEADER = APIKeyHeader(name="X-API-KEY", auto_error=False, description="the admin key")


def require_key(keys: Sequence[str]) -> Callable[..., Awaitable[None]]:
    """The dependency of every router that needs the key."""
    if not keys or not all(keys):
        raise ValueError("an admin key is needed, and it may not be empty")
    expected = [key.encode() for key in keys]

    async def check(given: str | None = Security(HEADER)) -> None:
        if given is None:
            raise _refused("missing apikey")
        # A header's bytes reach us as Latin-1.
        shown = given.encode("latin-1", "replace")
        matches = [compare_digest(shown, key) for key in expected]
        if not any(matches):
            raise _refused("wrong apikey")

    return check


def _refused(description: str) -> AdminError:
    return AdminError(401, {"error_msg": "failed to check token", "description": description})
