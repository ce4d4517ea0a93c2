"""From a store URL to a store.

The law: whatever is wrong with a URL is said here, at start, as a ValueError in one sentence that never shows a
password; a store that is merely down is no error yet.

    sqlite:///abs/path        sqlite:///./relative/path     etcd://host:port[,host:port...]
etcd://user:password@host:port     etcds://host:port[?ca=FILE][&cert=FILE&key=FILE]        (TLS)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

from shared.store.contract import ConfigStore
from shared.store.etcd import EtcdStore
from shared.store.etcd_connection import EtcdTarget, Login, Tls
from shared.store.sqlite import SqliteStore

ETCD_PORT: Final = 2379
TLS_OPTIONS: Final = ("ca", "cert", "key")

_URL: Final = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?")
_ENDPOINT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]+))?")


def open_store(url: str) -> ConfigStore:
    """A store, not yet connected: enter it as a context manager."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("a store URL looks like sqlite:///path or etcd://host:port, got one of another shape")
    scheme, authority, path = match["scheme"], match["authority"], match["path"]
    options = parse_qsl(match["query"] or "", keep_blank_values=True)
    match scheme:
        case "sqlite":
            return SqliteStore(_file(authority, path, options))
        case "etcd" | "etcds":
            return EtcdStore(_target(scheme, authority, path, options))
        case _:
            raise ValueError(f"unknown kind of store {scheme!r}, expected sqlite, etcd or etcds")


def _file(authority: str, path: str, options: list[tuple[str, str]]) -> Path:
    if authority:
        raise ValueError(f"a sqlite URL has three slashes before its path, got a host {authority!r}")
    if options:
        raise ValueError(f"a sqlite URL takes no options, got {options[0][0]!r}")
    name = unquote(path)
    if name.startswith(("/./", "/../")):
        name = name[1:]
    if name.endswith("/") or "\0" in name or not name.lstrip("/"):
        raise ValueError("a sqlite URL names a file: sqlite:///abs/path or sqlite:///./relative/path")
    return Path(name)


def _target(scheme: str, authority: str, path: str, options: list[tuple[str, str]]) -> EtcdTarget:
    if path not in ("", "/"):
        raise ValueError(f"an etcd URL takes no path, got {path!r}")
    login, _, hosts = authority.rpartition("@")
    endpoints = tuple(_endpoint(text) for text in hosts.split(","))
    return EtcdTarget(endpoints, _login(login), _tls(scheme, options))


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
