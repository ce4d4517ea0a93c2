"""What requests carry to say who they come from, and how it is taken out on the way to the upstream.

The law: only what was asked for leaves; the rest of a query or of cookies keeps its bytes and its order.
"""

from __future__ import annotations

from urllib.parse import unquote_plus

from shared.plugin.request import Request


def remove_argument(request: Request, name: str) -> None:
    """Every argument of this name, out of the upstream's query."""
    path, mark, query = request.target.partition("?")
    if not mark:
        return
    pairs = query.split("&")
    kept = [pair for pair in pairs if unquote_plus(pair.partition("=")[0], errors="surrogateescape") != name]
    if len(kept) < len(pairs):
        request.set_target(f"{path}?{'&'.join(kept)}" if kept else path)


def remove_cookie(request: Request, name: str) -> None:
    """Every cookie of this name, out of what the upstream is sent."""
    lines = request.header_values("cookie")
    kept = [pair.strip() for line in lines for pair in line.split(";") if pair.strip().partition("=")[0] != name]
    if len(kept) < sum(len(line.split(";")) for line in lines):
        request.set_header("Cookie", "; ".join(kept))
