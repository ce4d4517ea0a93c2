"""Which Waspgate this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def version_here() -> str:
    try:
        return version("waspgate")
    except PackageNotFoundError:
        # A source checkout that nobody installed.
        return "0+unknown"
