"""How a module cannot be fetched."""

from __future__ import annotations


class SourceError(Exception):
    """The text says what went wrong, for whoever wrote the configuration."""
