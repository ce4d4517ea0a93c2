"""Runs the control plane in this process: the Admin API on uvicorn, over the configuration store.

The law: what can be wrong with the settings is found before the first request: the address is bound here, so that a
port in use is one clear line, and an Admin API that others can reach needs a key that the operator chose.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType

import structlog
import uvicorn

from control_plane.admin_key import AdminKeyError, load_or_create_admin_key
from control_plane.app import create_app
from control_plane.cli.errors import CommandError
from control_plane.cli.key_file import read_key_file
from control_plane.cli.settings import Address, Settings, check_exposure
from control_plane.sources.sources import Sources
from shared.log import configure_logging
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
    key = _admin_key(settings)
    listener = bind(settings.admin)
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with listener:
        try:
            asyncio.run(_serve(settings, key, listener, stop))
        except StoreError as error:
            raise CommandError(f"cannot open the store {settings.store_without_password}: {error}") from error


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


def _admin_key(settings: Settings) -> str:
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    if settings.admin_key_file is not None:
        return read_key_file(settings.admin_key_file)
    try:
        key, path, created = load_or_create_admin_key(settings.key_directory)
    except AdminKeyError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot keep the admin key in {settings.key_directory}: {error.strerror}") from error
    log.info("made an admin key" if created else "using the admin key", path=str(path))
    return key


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


async def _serve(settings: Settings, key: str, listener: socket.socket, stop: _Stop) -> None:
    async with open_store(settings.store) as store:
        config = uvicorn.Config(
            create_app(store, keys=[key], sources=_sources(settings)),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        log.info("admin API is listening", address=str(settings.admin), store=settings.store_without_password)
        stop.server = uvicorn.Server(config)
        stop.server.should_exit = stop.asked
        await stop.server.serve(sockets=[listener])
    log.info("admin API has stopped")
