"""From a store URL to a store.

The law: whatever is wrong with a URL is said here, at start, as a ValueError in one sentence that never shows a
password; a store that is merely down is no error yet.

    sqlite:///abs/path        sqlite:///./relative/path     etcd://host:port[,host:port...]
yaml:///path/gateway.yaml    (a configuration file, for reading: gateway_file.py; .json is JSON)
etcd://user:password@host:port     etcds://host:port[?ca=FILE][&cert=FILE&key=FILE]        (TLS)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

from shared.store.contract import ConfigStore
from shared.store.sqlite import SqliteStore

# Of a `--config` file that is a gateway's whole configuration.
GATEWAY_SUFFIXES: Final = (".yaml", ".yml", ".json")

_URL: Final = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?")


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
            # gRPC costs every process 14 MB: only those pay that need it.
            from shared.store.etcd_url import open_etcd

            return open_etcd(scheme, authority, path, options)
        case "yaml":
            from shared.store.file import FileStore

            return FileStore(_file(authority, path, options, "yaml"))
        case _:
            raise ValueError(f"unknown kind of store {scheme!r}, expected sqlite, etcd, etcds or yaml")


def is_read_only(url: str) -> bool:
    """Of a store that is a configuration file."""
    return url.startswith("yaml:")


def gateway_file_url(path: Path) -> str | None:
    """The store that a `--config` file is when it is a gateway's whole configuration; None for a file of settings."""
    return f"yaml://{quote(str(path.absolute()))}" if path.suffix in GATEWAY_SUFFIXES else None


def check_gateway_file(url: str) -> None:
    """Raises ValueError when the store is a configuration file that cannot be one."""
    if is_read_only(url):
        from shared.store.file import FileStore, check_file

        store = open_store(url)
        assert isinstance(store, FileStore)
        check_file(store.path)


def folder_of(url: str) -> Path | None:
    """Where the data of a store lies that is a file of this host. The URL is one that `open_store` takes."""
    match = _URL.fullmatch(url)
    if match is None or match["scheme"] != "sqlite":
        return None
    return _file(match["authority"], match["path"], []).parent


def _file(authority: str, path: str, options: list[tuple[str, str]], scheme: str = "sqlite") -> Path:
    if authority:
        raise ValueError(f"a {scheme} URL has three slashes before its path, got a host {authority!r}")
    if options:
        raise ValueError(f"a {scheme} URL takes no options, got {options[0][0]!r}")
    name = unquote(path)
    if name.startswith(("/./", "/../")):
        name = name[1:]
    if name.endswith("/") or "\0" in name or not name.lstrip("/"):
        raise ValueError(f"a {scheme} URL names a file: {scheme}:///abs/path or {scheme}:///./relative/path")
    return Path(name)
