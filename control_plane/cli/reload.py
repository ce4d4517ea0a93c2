"""`waspgate reload`: has a running data plane read its settings again and replace its workers.

The law: it says how that ended. What is wrong with the settings is said before the data plane is asked, and a data plane that
keeps its old workers says why.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from control_plane.cli.errors import CommandError
from control_plane.cli.settings import Settings
from shared.run_file import Run, find_run, run_path

# New workers have 60 s to be ready.
WAIT_SECONDS = 75.0
LOOK_SECONDS = 0.05


def reload(settings: Settings) -> Run:
    """Raises CommandError."""
    listen = str(settings.listen)
    path = run_path(listen)
    before = find_run(path)
    if before is None:
        raise CommandError(f"no data plane of this user listens on {listen}; elsewhere, send its process a SIGHUP")
    try:
        os.kill(before.pid, signal.SIGHUP)
    except OSError as error:
        raise CommandError(f"the data plane {before.pid} cannot be told: {error.strerror}") from error
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        now = find_run(path)
        with suppress(ProcessLookupError):
            os.kill(before.pid, 0)
            if now is None or now.reloads == before.reloads:
                continue
            if now.error is not None:
                raise CommandError(f"the data plane goes on with its old workers: {now.error}")
            return now
        raise CommandError(f"the data plane {before.pid} has ended")
    raise CommandError(f"the data plane {before.pid} has not answered within {WAIT_SECONDS:g} s; its log says more")
