"""The data plane as an operator starts it: its addresses, its processes, and what a reload means for them.

The law: an address is taken before the first worker starts, and given up when the last one that serves it has been told to go.
A reload reads the settings anew; whatever is wrong with them costs one line in the log and nothing else.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple
from uuid import uuid4

import structlog

from data_plane.observe import observer
from data_plane.observe.observer import Listeners
from data_plane.observe.pulse import Pulse, Pulses
from data_plane.process.crew import Orders
from data_plane.process.sockets import Address, Sockets, page_socket
from data_plane.process.supervisor import Supervisor
from data_plane.settings import Settings, StreamListen, shown
from data_plane.worker import Place, run, state_directory
from shared.proxy_wasm.state.claim import Claim, sweep
from shared.proxy_wasm.state.directory import HostStateError
from shared.run_file import RunFile, run_path

log = structlog.get_logger(__name__)


class Listen(NamedTuple):
    """Something to listen for: the option that says so, and the address as the operator wrote it and as it is."""

    option: str
    shown: str
    address: Address

    @property
    def name(self) -> str:
        return f"{self.option} {self.shown}"


class ListenError(OSError):
    """One line for the operator."""

    def __init__(self, listen: Listen, error: OSError) -> None:
        super().__init__(f"cannot listen on {listen.shown} (--{listen.option}): {error.strerror or error}")


class DataPlane:
    """`reread` has the settings as they are now; it raises SettingsError."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings]) -> None:
        self._settings = settings
        self._coming = settings
        self._reread = reread
        self._sockets = Sockets()
        self._pages: dict[tuple[str, Address], socket.socket] = {}
        self._claims: dict[str, Claim] = {}
        self._pulses = Pulses()
        self._run_file: RunFile | None = None
        # In the store's registry: a name of this process, whatever its settings become.
        self._name = uuid4().hex

    def run(self) -> int:
        """The exit status. Raises ListenError."""
        try:
            orders = self._orders(self._settings)
            self._announce(self._settings)
            supervisor = Supervisor(orders, self._renew, self._renewed, self._leave, self._pulses)
            return supervisor.run()
        finally:
            self._sockets.close()
            for claim in self._claims.values():
                claim.release()
            if self._run_file is not None:
                self._run_file.close()

    # What the supervisor asks.

    def _renew(self) -> Orders:
        self._coming = self._reread()
        return self._orders(self._coming)

    def _renewed(self, error: str | None) -> None:
        if error is None:
            self._settings = self._coming
            self._announce(self._settings)
        self._keep_only(self._settings)
        if self._run_file is not None:
            self._run_file.reloaded(error)

    def _leave(self) -> None:
        """Whoever comes from now on is refused, instead of waiting for nobody."""
        self._sockets.close()

    # What a crew needs.

    def _orders(self, settings: Settings) -> Orders:
        for listen in _wanted(settings):
            try:
                self._sockets.wake()
                self._sockets.open(listen.name, listen.address, settings.workers)
            except OSError as error:
                self._keep_only(self._settings)
                raise ListenError(listen, error) from error
        self._claim(settings.store)
        listeners = self._open_pages(settings)
        # Where the control API really is, for the links to traces.
        control = None if listeners.control is None else listeners.control.getsockname()[:2]
        reached = replace(settings, control=control)
        if settings.trace_key is not None and control is None:
            log.warning("no request is traced: traces are shown by the control API, which is off (--control)")

        def work(number: int, pulse: Pulse, replaces: bool) -> None:
            place = self._place(settings, number, pulse, replaces)
            self._sockets.keep([*place.listeners, *place.tls, *(opened for opened, _ in place.streams)])
            self._close_pages()
            run(reached, place)

        def observe(pulse: Pulse, workers: Sequence[tuple[int, Pulse]]) -> None:
            self._sockets.keep(())
            hosts = frozenset(settings.tuning.control_hosts)
            observer.run(state_directory(settings.store), listeners, pulse, observer.Crew(self._pulses, workers), hosts)

        tuning = settings.tuning
        shows = observe if listeners.any() else None
        return Orders(
            settings.workers,
            work,
            shows,
            tuning.grace,
            tuning.drain_delay,
            tuning.stuck_after,
            rest=lambda number: self._sockets.rest(number, settings.workers),
            wake=self._sockets.wake,
        )

    def _place(self, settings: Settings, number: int, pulse: Pulse, replaces: bool) -> Place:
        def mine(listen: Listen) -> list[socket.socket]:
            return self._sockets.of(listen.name, number, settings.workers)

        streams = [(opened, item) for item in settings.streams for opened in mine(_of_stream(item))]
        tls = [] if settings.tls is None else mine(_of_tls(settings.tls))
        return Place(number, mine(_of_http(settings)), streams, pulse, replaces, tls, self._name)

    def _claim(self, store: str) -> None:
        if store not in self._claims:
            try:
                self._claims[store] = Claim(state_directory(store))
            except HostStateError as error:
                log.error("plugins cannot share data, queues and metrics", reason=str(error))

    def _open_pages(self, settings: Settings) -> Listeners:
        """An address that cannot be had costs the operator a page, and clients nothing: it is said, and the gateway goes on."""
        pages = _pages(settings)
        for option, wanted in pages.items():
            if wanted is not None and (option, wanted) not in self._pages:
                try:
                    self._pages[option, wanted] = page_socket(*wanted)
                except OSError as error:
                    reason = error.strerror or str(error)
                    log.error(f"cannot listen on {shown(wanted)} (--{option}): {reason}; going on without that page")
        found = {option: None if wanted is None else self._pages.get((option, wanted)) for option, wanted in pages.items()}
        return Listeners(found["prometheus"], found["control"], found["status"])

    def _close_pages(self) -> None:
        for page in self._pages.values():
            page.close()
        self._pages.clear()

    def _keep_only(self, settings: Settings) -> None:
        for name in self._sockets.names() - {listen.name for listen in _wanted(settings)}:
            self._sockets.close_only(name)
        wanted = _pages(settings).items()
        for page in [page for page in self._pages if page not in wanted]:
            self._pages.pop(page).close()

    def _announce(self, settings: Settings) -> None:
        listen = shown(self._sockets.bound(_of_http(settings).name))
        if self._run_file is None:
            try:
                self._run_file = RunFile(run_path(listen))
            except OSError as error:
                log.warning("`waspgate reload` cannot find this data plane, SIGHUP can", reason=str(error))
        if settings.streams:
            bound = ((item, *self._sockets.bound(_of_stream(item).name)) for item in settings.streams)
            log.info("TCP is proxied", listen=", ".join(str(replace(item, host=host, port=port)) for item, host, port in bound))
        pages = {
            option: shown(self._pages[option, wanted].getsockname()[:2])
            for option, wanted in _pages(settings).items()
            if wanted is not None and (option, wanted) in self._pages
        }
        if settings.tls is not None:
            pages["tls"] = shown(self._sockets.bound(_of_tls(settings.tls).name))
        log.info("data plane is starting", listen=listen, workers=settings.workers, pid=os.getpid(), **pages)


def _of_http(settings: Settings) -> Listen:
    return Listen("listen", settings.address, (settings.host, settings.port))


def _of_tls(address: Address) -> Listen:
    return Listen("tls-listen", shown(address), address)


def _of_stream(item: StreamListen) -> Listen:
    return Listen("stream-listen", str(item), (item.host, item.port))


def _wanted(settings: Settings) -> list[Listen]:
    """Every address for clients."""
    tls = [] if settings.tls is None else [_of_tls(settings.tls)]
    return [_of_http(settings), *tls, *map(_of_stream, settings.streams)]


def _pages(settings: Settings) -> dict[str, Address | None]:
    return {"prometheus": settings.prometheus, "control": settings.control, "status": settings.status}


def supervise(settings: Settings, reread: Callable[[], Settings]) -> int:
    """The exit status. Raises ListenError."""
    # From when it can be found, a reload waits for the supervisor instead of ending it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    with suppress(OSError):
        for left in sweep():
            log.info("deleted the shared state of a gateway that was killed", directory=str(left))
    return DataPlane(settings, reread).run()
