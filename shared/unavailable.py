"""Failures that are nobody's mistake in here: something that is needed does not answer, or has no room."""

from __future__ import annotations


class Unavailable(Exception):
    """The message says what and why; a log needs no more."""
