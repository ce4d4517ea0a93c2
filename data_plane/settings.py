"""What the data plane can be told: an option beats its variable.

The law: whatever is wrong with a setting is one line that names where it stands, before anything is started.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from shared.store.url import open_store

T = TypeVar("T")

DEFAULT_LISTEN = "127.0.0.1:9080"
DEFAULT_WORKERS = "1"
# Kubernetes gives a pod 30 s between SIGTERM and SIGKILL, `waspgate up` gives its planes 40 s.
DEFAULT_GRACE = "30"
MOST_WORKERS = 1024


class SettingsError(ValueError):
    """One line for the operator."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`grace` is how many seconds a worker gives the requests in flight when it is asked to stop."""

    store: str
    host: str
    port: int
    workers: int
    grace: float

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError; ends the process for `--help` and for options that do not exist."""
    parser = argparse.ArgumentParser(prog="python -m data_plane", description="Waspgate's data plane.")
    parser.add_argument("--store", metavar="URL", help="sqlite:///PATH or etcd://HOST:PORT (WASPGATE_STORE)")
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"default {DEFAULT_LISTEN} (WASPGATE_LISTEN)")
    parser.add_argument("--workers", metavar="N", help=f"default {DEFAULT_WORKERS} (WASPGATE_WORKERS)")
    parser.add_argument("--grace", metavar="SECONDS", help=f"for draining, default {DEFAULT_GRACE} (WASPGATE_GRACE)")
    options = vars(parser.parse_args(arguments))

    def setting(name: str, default: str | None, read: Callable[[str], T]) -> T:
        variable = f"WASPGATE_{name.upper()}"
        given = options[name]
        origin = f"--{name}" if given is not None else variable
        text = given if given is not None else environment.get(variable) or default
        if text is None:
            raise SettingsError(f"--{name} (or {variable}) is needed")
        try:
            return read(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}") from error

    host, port = setting("listen", DEFAULT_LISTEN, _address)
    return Settings(
        store=setting("store", None, _store),
        host=host,
        port=port,
        workers=setting("workers", DEFAULT_WORKERS, _workers),
        grace=setting("grace", DEFAULT_GRACE, _grace),
    )


def _store(url: str) -> str:
    open_store(url)
    return url


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f"expected HOST:PORT with an IPv6 address in brackets, got {text!r}")
    return host[1:-1] if bracketed else host, int(port)


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError(f"expected a number from 1 to {MOST_WORKERS}, got {text!r}")
    return int(text)


def _grace(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ValueError(f"expected seconds from 0 to 3600, got {text!r}")
    return seconds
