"""For all tests: how long an example takes on a busy machine says nothing about what is tested, and what is kept of compiled
plugins is kept in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Its default shows every local variable of every frame, which takes a minute for an exception behind a web framework.
structlog.configure(processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)])

os.environ["XDG_CACHE_HOME"] = str(Path(__file__).resolve().parents[1] / ".build" / "cache")
