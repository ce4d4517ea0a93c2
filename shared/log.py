"""Logging for every process: one event per line, JSON for machines, colours for a person at a terminal.

The law: configured once, in a process's entry point. Records of the standard library (uvicorn, grpc) take the same
road, so that a log never mixes two formats. NO_COLOR (https://no-color.org) is respected. A traceback is the plain one:
local variables would put the admin key into the log, and rendering large ones takes seconds.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor


def configure_logging(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send everything at `level` or above to `stream` (standard error)."""
    target = sys.stderr if stream is None else stream
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(target)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)


def _renderers(target: TextIO) -> list[Processor]:
    if target.isatty():
        colors = not os.environ.get("NO_COLOR")
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
