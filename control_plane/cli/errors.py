"""What ends a command early: one line for the operator, never a stack trace."""

from __future__ import annotations


class CommandError(Exception):
    """The message names the setting or the file, says what was found there and what is expected."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


# The convention of shells and of click for a command that was called wrongly.
USAGE = 2
