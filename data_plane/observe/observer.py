"""The observer: a process beside the workers that shows what they do, on the Prometheus page and the control API.

The law: it reads the host's state and the workers' pulses and nothing else, so a scrape costs no worker anything, and its own
end is no loss but of the pages: the supervisor starts another. Where the state cannot be read its pages say so with 503.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from data_plane.observe import checkers, control_api
from data_plane.observe.checkers import HEALTHCHECK_PATH
from data_plane.observe.page import Report, page
from data_plane.observe.pulse import BEAT_SECONDS, Pulse, Pulses, State
from data_plane.observe.server import LocalNames, Page, PageServer, text
from data_plane.observe.traces import TRACES_PATH, TraceStore
from shared.log import configure_logging
from shared.proxy_wasm.state.directory import HostStateError
from shared.proxy_wasm.state.prometheus import CONTENT_TYPE
from shared.proxy_wasm.state.reader import StateReader

log = structlog.get_logger(__name__)

STATUS_PATH = "/status"
METRICS_PATH = "/apisix/prometheus/metrics"


@dataclass(frozen=True, slots=True)
class Listeners:
    """Bound and listening; None where a page is off."""

    prometheus: socket.socket | None
    control: socket.socket | None
    status: socket.socket | None

    def any(self) -> bool:
        return any(listener is not None for listener in (self.prometheus, self.control, self.status))


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers that this observer shows, by number, and whether they are stopping."""

    pulses: Pulses
    workers: Sequence[tuple[int, Pulse]]

    def readiness(self) -> str | None:
        """Why the data plane is not ready."""
        if self.pulses.stopping:
            return "the data plane is stopping"
        for number, pulse in self.workers:
            state = pulse.state
            if state != State.READY:
                why = "is short of memory" if state == State.SHORT else "has not received configuration"
                return f"worker id: {number} {why}"
        return None

    def staleness(self) -> str | None:
        """Why what is served may be old."""
        stale = [str(number) for number, pulse in self.workers if pulse.is_stale]
        if not stale:
            return None
        return f"worker id: {', '.join(stale)}: the last snapshot on disk is served, the configuration store does not answer"


class Pages:
    """What the servers show, from the state in `directory` and from the pulses of the crew."""

    def __init__(self, directory: Path, crew: Crew) -> None:
        self._directory = directory
        self._crew = crew
        self._traces = TraceStore(directory)
        self._reader: StateReader | None = None

    def prometheus(self, path: str) -> Page:
        if path != METRICS_PATH:
            return text(404, f"not found, the metrics are at {METRICS_PATH}")
        try:
            reader = self._state()
            checked = checkers.samples(reader.health())
            shown = page(reader.gateway_metrics(), reader.plugin_metrics(), _reports(reader), reader.bytes_used(), checked)
        except HostStateError as error:
            return text(503, str(error))
        return Page(200, CONTENT_TYPE, shown.encode())

    def control(self, path: str) -> Page:
        if path.startswith(TRACES_PATH):
            return self._trace(path.removeprefix(TRACES_PATH))
        if path == STATUS_PATH or path.startswith(f"{STATUS_PATH}/"):
            return self.status(path)
        try:
            if path == HEALTHCHECK_PATH or path.startswith(f"{HEALTHCHECK_PATH}/"):
                status, answer = checkers.answer(path[len(HEALTHCHECK_PATH) + 1 :], self._state().health())
            else:
                status, answer = control_api.answer(path, _reports(self._state()))
        except HostStateError as error:
            status, answer = 503, {"error_msg": str(error)}
        return Page(status, "application/json", f"{json.dumps(answer)}\n".encode())

    def status(self, path: str) -> Page:
        """APISIX's status API: whether the data plane runs, and whether it can serve."""
        status, answer = control_api.status(path, self._crew.readiness, self._crew.staleness)
        return Page(status, "application/json", f"{json.dumps(answer)}\n".encode())

    def _trace(self, trace_id: str) -> Page:
        found = self._traces.get(trace_id)
        answer = {"error_msg": f"trace[{trace_id}] not found"} if found is None else found
        return Page(404 if found is None else 200, "application/json", f"{json.dumps(answer)}\n".encode())

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _state(self) -> StateReader:
        if self._reader is not None and not self._reader.is_current():
            self.close()
        if self._reader is None:
            self._reader = StateReader(self._directory)
        return self._reader


def _reports(reader: StateReader) -> Sequence[Report]:
    found: list[dict[str, Any]] = [json.loads(report) for report in reader.reports()]
    return sorted(found, key=lambda report: (report["worker"], report["pid"]))


def run(directory: Path, listeners: Listeners, pulse: Pulse, crew: Crew, hosts: frozenset[str]) -> None:
    """Show the pages until a signal. `hosts` are names by which the control API may be asked for, beside those of loopback."""
    configure_logging()
    asyncio.run(_run(directory, listeners, pulse, crew, hosts))


async def _run(directory: Path, listeners: Listeners, pulse: Pulse, crew: Crew, hosts: frozenset[str]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    pages = Pages(directory, crew)
    servers = (
        (listeners.prometheus, PageServer(pages.prometheus)),
        (listeners.control, PageServer(pages.control, LocalNames(hosts))),
        (listeners.status, PageServer(pages.status)),
    )
    async with AsyncExitStack() as stack:
        stack.callback(pages.close)
        for listener, pages_of in servers:
            if listener is not None:
                server = await pages_of.start(listener)
                stack.callback(server.close)
        pulse.state = State.READY
        while not stop.is_set():
            pulse.beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await stop.wait()
