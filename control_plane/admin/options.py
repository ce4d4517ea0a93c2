"""How a write is meant: what its query and headers say beside its body.

The law: a word that is not known is refused; nothing here is guessed.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Query

from control_plane.admin.operations import ANY, Match, Options
from control_plane.errors import BadRequest
from shared.schema.errors import excerpt

# A lease longer than this (ten years) is a mistake.
MAX_TTL = 315_360_000

TTL: str | None = Query(None, description="seconds after which the object is deleted")
DRY_RUN: str | None = Query(
    None, description="`true`: everything is checked and nothing written; `false`: plugins are not asked for their word"
)
IF_MATCH: str | None = Header(None, description="the object's modifiedIndex, or * for any object that is there")
IF_NONE_MATCH: str | None = Header(None, description="*: there must be no object yet")


def match_of(if_match: str | None = IF_MATCH, if_none_match: str | None = IF_NONE_MATCH) -> Match:
    """Raises BadRequest."""
    if if_none_match not in (None, "*"):
        raise BadRequest(f"invalid header If-None-Match: expected *, got {excerpt(if_none_match)}")
    if if_none_match is not None:
        if if_match is not None:
            raise BadRequest("invalid header If-None-Match: it contradicts If-Match")
        return Match(exists=False)
    if if_match is None:
        return ANY
    if if_match.strip() == "*":
        return Match(exists=True)
    found = re.fullmatch(r'(?:W/)?"?([0-9]{1,19})"?', if_match.strip(), re.ASCII)
    if found is None:
        raise BadRequest(f"invalid header If-Match: expected a modifiedIndex or *, got {excerpt(if_match)}")
    return Match(revision=int(found[1]))


Matching = Annotated[Match, Depends(match_of)]


def deletion_options(match: Matching, dry_run: str | None = DRY_RUN) -> Options:
    """Raises BadRequest."""
    if dry_run not in (None, "true", "false"):
        raise BadRequest(f"invalid argument dry_run: expected true or false, got {excerpt(dry_run)}")
    return Options(dry_run=dry_run != "false", simulate=dry_run == "true", match=match)


def write_options(match: Matching, ttl: str | None = TTL, dry_run: str | None = DRY_RUN) -> Options:
    """Raises BadRequest."""
    plain = deletion_options(match, dry_run)
    return Options(_ttl(ttl), plain.dry_run, match, plain.simulate)


def several_options(ttl: str | None = TTL, dry_run: str | None = DRY_RUN) -> Options:
    """Of many objects, each of which says by itself what it must be. Raises BadRequest."""
    return write_options(ANY, ttl, dry_run)


Writes = Annotated[Options, Depends(write_options)]
Unmatched = Annotated[Options, Depends(several_options)]
# A write that makes nothing that could expire.
Deletes = Annotated[Options, Depends(deletion_options)]


def _ttl(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII):
        raise BadRequest("invalid argument ttl: should be a number")
    if not 1 <= int(text) <= MAX_TTL:
        raise BadRequest(f"invalid argument ttl: expected 1 to {MAX_TTL} seconds, got {text}")
    return int(text)
