"""From the parts of an `etcd://` or `etcds://` URL to a store. The law is that of `url.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from shared.store.etcd import EtcdStore
from shared.store.etcd_connection import EtcdTarget, Login, Tls

ETCD_PORT: Final = 2379
TLS_OPTIONS: Final = ("ca", "cert", "key")

_ENDPOINT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


def open_etcd(scheme: str, authority: str, path: str, options: list[tuple[str, str]]) -> EtcdStore:
    if path not in ("", "/"):
        raise ValueError(f"an etcd URL takes no path, got {path!r}")
    login, _, hosts = authority.rpartition("@")
    endpoints = tuple(_endpoint(text) for text in hosts.split(","))
    return EtcdStore(EtcdTarget(endpoints, _login(login), _tls(scheme, options)))


def _endpoint(text: str) -> str:
    match = _ENDPOINT.fullmatch(text)
    port = int(match["port"] or ETCD_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"an etcd endpoint is HOST:PORT, got {text!r}")
    return f"{match['host']}:{port}"


def _login(text: str) -> Login | None:
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise ValueError("an etcd URL with a user needs a password too: etcd://user:password@host:port")
    return Login(unquote(user), unquote(password))


def _tls(scheme: str, options: list[tuple[str, str]]) -> Tls | None:
    for name, _ in options:
        if name not in TLS_OPTIONS:
            raise ValueError(f"unknown option {name!r} in an etcd URL, expected {', '.join(TLS_OPTIONS)}")
    files = dict(options)
    if scheme == "etcd":
        if files:
            raise ValueError(f"the option {next(iter(files))!r} is for TLS: write etcds:// instead of etcd://")
        return None
    if ("cert" in files) != ("key" in files):
        raise ValueError("the options 'cert' and 'key' of an etcds URL come together")
    return Tls(**{name: _read(name, Path(file)) for name, file in files.items()})


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file {path} of option {option!r} cannot be read: {error.strerror}") from error
