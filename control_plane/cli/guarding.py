"""From the settings to what guards the Admin API: its keys, its TLS, its audit log, and the keys of the secrets in the store.

The law: whatever is wrong is one line before the first request.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from pathlib import Path

import structlog

from control_plane.admin_key import AdminKeyError, load_or_create_admin_key
from control_plane.audit import AuditFile, to_log
from control_plane.auth.attempts import Attempts
from control_plane.auth.hashing import hash_key
from control_plane.auth.keys import AdminKey, Keys, unrestricted
from control_plane.cli.errors import CommandError
from control_plane.cli.key_file import read_key_file
from control_plane.cli.settings import Settings
from control_plane.security import Guard
from shared.private_file import PrivateFileError
from shared.secrets.keyring import Keyring
from shared.secrets.sources import keyring_of, keys_beside, make_keys

log = structlog.get_logger()

# Renewed certificates are live within this.
LOOK_SECONDS = 10.0


def guard_of(settings: Settings, audit: AuditFile | None) -> Guard:
    """Raises CommandError."""
    hosts = frozenset(settings.admin_hosts)
    return Guard(
        Keys([*_unrestricted(settings), *_named(settings)]),
        Attempts(time.monotonic),
        # Who listens for this host only is not known by any other name; elsewhere the operator says which there are.
        hosts if hosts or settings.admin.is_loopback else None,
        settings.admin_trusted_addresses,
        settings.admin_allow,
        to_log if audit is None else audit.write,
    )


def _unrestricted(settings: Settings) -> list[AdminKey]:
    if settings.admin_key is not None:
        return [unrestricted(settings.admin_key.get_secret_value())]
    if settings.admin_key_file is not None:
        return [unrestricted(read_key_file(settings.admin_key_file))]
    if settings.admin_keys:
        return []
    try:
        key, path, created = load_or_create_admin_key(settings.key_directory)
    except AdminKeyError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot keep the admin key in {settings.key_directory}: {error.strerror}") from error
    log.info("made an admin key" if created else "using the admin key", path=str(path))
    return [unrestricted(key)]


def _named(settings: Settings) -> list[AdminKey]:
    found = []
    for key in settings.admin_keys:
        hashed = key.key_hash if key.key is None else hash_key(key.key.get_secret_value())
        assert hashed is not None
        kinds = None if key.resources is None else frozenset(key.resources)
        found.append(AdminKey(key.name, hashed, key.role, kinds, key.addresses))
    return found


def keyring_for(settings: Settings) -> Keyring:
    """Of the store; made beside it where it is a file and there are none. Raises CommandError."""
    keys = "" if settings.encryption_keys is None else settings.encryption_keys.get_secret_value()
    file = "" if settings.encryption_keys_file is None else str(settings.encryption_keys_file)
    beside = keys_beside(settings.store)
    if not keys and not file and beside is not None:
        _make(beside)
    keyring = keyring_of(settings.store, keys, file)
    if not keyring:
        log.warning("there are no encryption keys: secrets are refused, not stored in clear; see encryption_keys_file")
    return keyring


def _make(path: Path) -> None:
    try:
        if make_keys(path):
            log.info("made an encryption key", path=str(path))
    except PrivateFileError as error:
        raise CommandError(str(error.strerror)) from error
    except OSError as error:
        raise CommandError(f"cannot keep the encryption keys in {path}: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from error


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Raises CommandError."""
    if settings.admin_tls_cert is None or settings.admin_tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings.admin_tls_cert, settings.admin_tls_key)
    if settings.admin_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(settings.admin_client_ca)
        except (OSError, ssl.SSLError) as error:
            raise CommandError(f"{settings.admin_client_ca} (--admin-client-ca) has no certificate: {error}") from error
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise CommandError(
            f"{cert} and {key} (--admin-tls-cert, --admin-tls-key) are no certificate and its key: {error}"
        ) from error


def _no_password() -> str:
    """Nobody is asked at a terminal."""
    raise OSError("the key is encrypted with a password, give it without")


async def keep_certificate(context: ssl.SSLContext, settings: Settings, every: float = LOOK_SECONDS) -> None:
    """Reads it again when its files change; connections that are made from then on have it. What cannot be used is reported."""
    assert settings.admin_tls_cert is not None
    assert settings.admin_tls_key is not None
    known = _stamp(settings)
    while True:
        await asyncio.sleep(every)
        found = _stamp(settings)
        if found == known:
            continue
        known = found
        try:
            # Into another one first: half of a pair in this one would end every handshake.
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings.admin_tls_cert, settings.admin_tls_key)
            _load(context, settings.admin_tls_cert, settings.admin_tls_key)
        except CommandError as error:
            log.error("the Admin API keeps its old certificate", reason=str(error))
        else:
            log.info("the Admin API has a new certificate", path=str(settings.admin_tls_cert))


def _stamp(settings: Settings) -> tuple[int, ...]:
    files = (settings.admin_tls_cert, settings.admin_tls_key)
    try:
        return tuple(os.stat(file).st_mtime_ns for file in files if file is not None)
    except OSError:
        return ()
