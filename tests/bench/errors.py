"""What ends a run without a figure.

The law: a benchmark that could not measure says why in one sentence and leaves with the code below; a slow proxy is a
result, not an error.
"""

from __future__ import annotations


class BenchError(Exception):
    """The run did not work: a process ended, or a proxy answered something wrong."""

    exit_code = 1


class MissingTool(BenchError):
    """A program that the machine has to have is not there."""

    exit_code = 2
