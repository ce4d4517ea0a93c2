"""Runs both planes as processes under one parent.

The law: the parent restarts nothing. When a plane ends by itself the parent says which and how, stops the other, and
ends with status 1; SIGTERM or SIGINT stops both gracefully and ends with status 0; SIGHUP is the data plane's. A plane does
not outlive its parent.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping

import structlog

from control_plane.cli.settings import PREFIX, Settings, check_exposure
from shared.log import configure_logging
from shared.settings_file import OF_THE_CONTROL_PLANE
from shared.tuning import NAMES

log = structlog.get_logger()

# -P: what lies in the current folder must not be imported instead of the installed packages.
CONTROL_PLANE = ("-P", "-m", "control_plane.cli.main", "control-plane")
DATA_PLANE = ("-P", "-m", "data_plane")

# The data plane drains for 30 s and the control plane for 10 s; what still runs after this is stuck.
GRACE_SECONDS = 40

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def run(settings: Settings) -> int:
    """The exit status of `waspgate up`. Raises CommandError."""
    check_exposure(settings)
    configure_logging()
    return asyncio.run(_supervise(settings))


def become_data_plane(settings: Settings) -> None:
    """Replace this process by the data plane, so that signals and the exit status are its own."""
    arguments = [sys.executable, *DATA_PLANE]
    os.execve(sys.executable, arguments, environment(settings))


async def _supervise(settings: Settings) -> int:
    planes = {
        "control plane": await _start(CONTROL_PLANE, environment(settings) | settings.variables()),
        "data plane": await _start(DATA_PLANE, environment(settings)),
    }
    log.info(
        "waspgate is starting",
        gateway=f"http://{settings.listen}",
        admin=f"http://{settings.admin}/apisix/admin",
        store=settings.store_without_password,
        **_pages(settings),
    )
    stop = _stop_event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, planes["data plane"])
    ends = {asyncio.create_task(process.wait(), name=name) for name, process in planes.items()}
    signalled = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({*ends, signalled}, return_when=asyncio.FIRST_COMPLETED)
    for task in done & ends:
        log.error(f"the {task.get_name()} ended by itself", status=task.result())
    failed = not stop.is_set()
    await _stop(planes, ends)
    signalled.cancel()
    return 1 if failed else 0


async def _start(arguments: tuple[str, ...], environment: Mapping[str, str]) -> Process:
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    # Its own process group: a terminal's Ctrl-C reaches the parent alone, which stops both in order.
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, process_group=0, preexec_fn=die_with_parent
    )


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _reload(data_plane: Process) -> None:
    if data_plane.returncode is None:
        data_plane.send_signal(signal.SIGHUP)


async def _stop(planes: Mapping[str, Process], ends: set[asyncio.Task[int]]) -> None:
    for process in planes.values():
        if process.returncode is None:
            process.terminate()
    _, running = await asyncio.wait(ends, timeout=GRACE_SECONDS)
    for task in running:
        log.error(f"the {task.get_name()} did not stop in time and is killed", seconds=GRACE_SECONDS)
        planes[task.get_name()].kill()
    await asyncio.wait(ends)


def _pages(settings: Settings) -> dict[str, str]:
    """The data plane says where those are whose port it chose itself."""
    shown = {
        "metrics": (settings.prometheus, "/apisix/prometheus/metrics"),
        "control": (settings.control, "/v1"),
        "status": (settings.status, "/status"),
    }
    return {name: f"http://{address}{path}" for name, (address, path) in shown.items() if address and address.port}


def environment(settings: Settings) -> dict[str, str]:
    """What options and variables say, in place of what the caller's environment says; the data plane reads the file itself."""
    names = {f"{PREFIX}{name.upper()}" for name in (*Settings.model_fields, *NAMES, "config")}
    others = {name: value for name, value in os.environ.items() if name not in names}
    hidden = {f"{PREFIX}{name.upper()}" for name in OF_THE_CONTROL_PLANE}
    return others | {name: value for name, value in settings.variables().items() if name not in hidden}
