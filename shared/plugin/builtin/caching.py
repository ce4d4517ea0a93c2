"""Which responses a shared cache may keep and for how long (RFC 9111), as far as messages say it.

The law: in doubt a response is not kept. What a response says of itself (`private`, `no-store`, `no-cache`, Set-Cookie,
Vary: *) counts whatever the configuration says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from hashlib import blake2b

_DIRECTIVE = re.compile(r'\s*([A-Za-z-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s,"]*)))?\s*(?:,|$)')
# Of a response to a request with credentials (section 3.5).
_FOR_ALL = frozenset({"public", "s-maxage", "must-revalidate"})
_NEVER = frozenset({"private", "no-store", "no-cache"})
# A response that varies by more is not worth its keys.
MOST_VARIED = 16


def directives(values: Iterable[str]) -> dict[str, str]:
    """Of Cache-Control fields, by names in lower case; one without a value has an empty one."""
    found: dict[str, str] = {}
    for value in values:
        for match in _DIRECTIVE.finditer(value):
            found.setdefault(match[1].lower(), match[2] or match[3] or "")
    return found


def seconds(value: str | None) -> int | None:
    """Of a directive; None for what is no number."""
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 12 else None


def lifetime(said: Mapping[str, str], expires: str | None, now: float) -> float | None:
    """Seconds for which a response says that it is fresh (section 4.2.1); None when it does not say."""
    for name in ("s-maxage", "max-age"):
        if name in said:
            # What is no number is as old as can be.
            return seconds(said[name]) or 0
    if expires is None:
        return None
    try:
        return parsedate_to_datetime(expires).timestamp() - now
    except (ValueError, OverflowError, TypeError):
        return 0


def may_be_kept(said: Mapping[str, str], *, with_credentials: bool) -> bool:
    if _NEVER & said.keys():
        return False
    return not with_credentials or bool(_FOR_ALL & said.keys())


def varied_by(values: Iterable[str]) -> list[str] | None:
    """The request's fields that a response was chosen by, in lower case and in order; None: by more than can be said."""
    names = {name.strip().lower() for value in values for name in value.split(",")} - {""}
    return None if "*" in names or len(names) > MOST_VARIED else sorted(names)


def variant(names: Iterable[str], values: Mapping[str, list[str]]) -> bytes:
    """What tells responses of one target apart; `values` by the fields' names."""
    digest = blake2b(digest_size=16)
    for name in names:
        for part in (name, *values[name]):
            data = part.encode("utf-8", "surrogateescape")
            digest.update(b"%d:" % len(data) + data)
        digest.update(b";")
    return digest.digest()
