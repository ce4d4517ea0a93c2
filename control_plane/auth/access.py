"""Every request to the Admin API shows a key, and does what that key is for.

The law: there is no default key. A wrong answer never says which part was wrong: a key that does not exist and one that is not
good from this address are the same. Wrong keys are counted by address; after too many it is refused whatever it shows, but for
random keys: nobody guesses those, and so nobody can lock their owners out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from fastapi import Request, Security
from fastapi.security import APIKeyHeader

from control_plane.auth.attempts import Attempts
from control_plane.auth.hashing import is_random
from control_plane.auth.keys import AdminKey, Keys
from control_plane.errors import AdminError

log = structlog.get_logger()

HEADER = APIKeyHeader(name="X-API-KEY", auto_error=False, description="the admin key")


def require_key(keys: Keys, attempts: Attempts, prefix: str) -> Callable[..., Awaitable[None]]:
    """The dependency of every router that needs the key."""

    async def check(request: Request, given: str | None = Security(HEADER)) -> None:
        if not given:
            raise _refused("missing apikey")
        address = request.client.host if request.client else ""
        # A header's bytes reach us as Latin-1.
        key = await _find(keys, attempts, given.encode("latin-1", "replace"), address)
        request.state.admin_key = key.name
        if key.may_read_only(request.method):
            raise _refused(f"invalid method for role {key.role}")
        if not key.reaches(request.url.path.removeprefix(prefix).strip("/").split("/"), request.method):
            raise AdminError(403, {"error_msg": f"the key {key.name} is for other resources than this one"})

    return check


async def _find(keys: Keys, attempts: Attempts, shown: bytes, address: str) -> AdminKey:
    """Raises AdminError."""
    wait = attempts.wait(address)
    if wait:
        key = keys.find_fast(shown) if is_random(shown) else None
    else:
        key = await keys.find(shown)
    if key is not None and key.is_good_from(address):
        return key
    if not wait:
        attempts.failed(address)
        log.warning("wrong admin key", address=address)
        raise _refused("wrong apikey")
    raise AdminError(429, {"error_msg": f"too many wrong keys, try again in {wait} s"}, {"Retry-After": str(wait)})


def _refused(description: str) -> AdminError:
    return AdminError(401, {"error_msg": "failed to check token", "description": description})
