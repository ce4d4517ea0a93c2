"""Runs the control plane in this process: the Admin API on uvicorn, over the configuration store.

The law: what can be wrong with the settings is found before the first request: the address is bound here, so that a
port in use is one clear line, and an Admin API that others can reach needs a key that the operator chose.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from dataclasses import dataclass
from types import FrameType

import structlog
import uvicorn

from control_plane.app import create_app
from control_plane.audit import AuditFile
from control_plane.cli.errors import CommandError
from control_plane.cli.guarding import guard_of, keep_certificate, keyring_for, tls_of
from control_plane.cli.settings import Address, Settings, check_exposure
from control_plane.security import Guard
from control_plane.sources.sources import Sources
from shared.log import configure_logging
from shared.secrets.sealed_store import SealedStore
from shared.store.contract import StoreError
from shared.store.url import open_store

log = structlog.get_logger()

# Pending connections while the one thread is busy; the Admin API has few clients.
BACKLOG = 128
# How long a request in flight may take after SIGTERM; an upload of 32 MiB on a slow link is the longest.
GRACE_SECONDS = 10


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight. Raises CommandError."""
    check_exposure(settings)
    configure_logging()
    audit = None if settings.audit_log is None else AuditFile(settings.audit_log)
    guarded = Guarded(guard_of(settings, audit), tls_of(settings))
    listener = bind(settings.admin)
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with listener:
        try:
            asyncio.run(_serve(settings, guarded, listener, stop))
        except StoreError as error:
            raise CommandError(f"cannot open the store {settings.store_without_password}: {error}") from error
        finally:
            if audit is not None:
                audit.close()


def bind(address: Address) -> socket.socket:
    """A listening socket. Raises CommandError."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        raise CommandError(f"cannot listen on {address} (--admin): {error.strerror}") from error
    return listener


def _sources(settings: Settings) -> Sources:
    return Sources.of(allow_private=settings.allow_private_module_sources, registry_config=settings.registry_config)


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the settings say of security, ready for use."""

    guard: Guard
    tls: ssl.SSLContext | None


class _Stop:
    """Handles signals until uvicorn does: one that comes while the store is opened is kept for it. When uvicorn is done it
    raises the signal that stopped it once more; then it must not kill."""

    def __init__(self) -> None:
        self.asked = False
        self.server: uvicorn.Server | None = None

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.server is not None:
            self.server.should_exit = True


async def _serve(settings: Settings, guarded: Guarded, listener: socket.socket, stop: _Stop) -> None:
    async with open_store(settings.store) as opened:
        store = SealedStore(opened, keyring_for(settings))
        config = uvicorn.Config(
            create_app(store, guard=guarded.guard, sources=_sources(settings)),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        log.info("admin API is listening", address=str(settings.admin), store=settings.store_without_password)
        stop.server = uvicorn.Server(config)
        stop.server.should_exit = stop.asked
        # What uvicorn would make of file names cannot be reloaded.
        config.load()
        config.ssl = guarded.tls
        async with asyncio.TaskGroup() as tasks:
            watching = None
            if guarded.tls is not None:
                watching = tasks.create_task(keep_certificate(guarded.tls, settings), name="certificate")
            await stop.server.serve(sockets=[listener])
            if watching is not None:
                watching.cancel()
    log.info("admin API has stopped")
