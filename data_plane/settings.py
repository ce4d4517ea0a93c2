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
Address = tuple[str, int]

DEFAULT_LISTEN = "127.0.0.1:9080"
DEFAULT_WORKERS = "1"
# APISIX's ports.
DEFAULT_PROMETHEUS = "127.0.0.1:9091"
DEFAULT_CONTROL = "127.0.0.1:9090"
# Kubernetes gives a pod 30 s between SIGTERM and SIGKILL, `waspgate up` gives its planes 40 s.
DEFAULT_GRACE = "30"
MOST_WORKERS = 1024
# Of these an empty text is a value: off.
MAY_BE_EMPTY = ("prometheus", "control")
# Of a trace key: what it shows are other people's requests.
LEAST_TRACE_KEY = 16


class SettingsError(ValueError):
    """One line for the operator."""


@dataclass(frozen=True, slots=True)
class StreamListen:
    """Where TCP connections come in. `sniffs`: they begin with a ClientHello, which says for whom they are."""

    host: str
    port: int
    sniffs: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.sniffs else 'tcp'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """`grace` is how many seconds a worker gives the requests in flight when it is asked to stop. `prometheus` and `control`
    are None where those pages are off, `trace_key` where no request can be traced."""

    store: str
    host: str
    port: int
    workers: int
    grace: float
    streams: tuple[StreamListen, ...] = ()
    prometheus: Address | None = None
    control: Address | None = None
    trace_key: str | None = None

    @property
    def address(self) -> str:
        return shown((self.host, self.port))


def shown(address: Address) -> str:
    """As an operator writes it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError; ends the process for `--help` and for options that do not exist."""
    parser = argparse.ArgumentParser(prog="python -m data_plane", description="Waspgate's data plane.")
    parser.add_argument("--store", metavar="URL", help="sqlite:///PATH or etcd://HOST:PORT (WASPGATE_STORE)")
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"default {DEFAULT_LISTEN} (WASPGATE_LISTEN)")
    parser.add_argument("--workers", metavar="N", help=f"default {DEFAULT_WORKERS} (WASPGATE_WORKERS)")
    streams = "for TCP, repeatable (WASPGATE_STREAM_LISTEN: A,B)"
    parser.add_argument("--stream-listen", metavar="[tls://]HOST:PORT", action="append", help=streams)
    parser.add_argument("--grace", metavar="SECONDS", help=f"for draining, default {DEFAULT_GRACE} (WASPGATE_GRACE)")
    parser.add_argument("--prometheus", metavar="HOST:PORT", help=f"default {DEFAULT_PROMETHEUS} (WASPGATE_PROMETHEUS)")
    parser.add_argument("--control", metavar="HOST:PORT", help=f"default {DEFAULT_CONTROL} (WASPGATE_CONTROL)")
    parser.add_argument("--trace-key", metavar="KEY", help="requests with it are traced, default none (WASPGATE_TRACE_KEY)")
    options = vars(parser.parse_args(arguments))
    if options["stream_listen"] is not None:
        options["stream_listen"] = ",".join(options["stream_listen"])

    def setting(name: str, default: str | None, read: Callable[[str], T]) -> T:
        variable = f"WASPGATE_{name.upper()}"
        given = options[name]
        origin = f"--{name.replace('_', '-')}" if given is not None else variable
        text = given if given is not None else environment.get(variable)
        if text is None or (not text and name not in MAY_BE_EMPTY):
            text = default
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
        streams=setting("stream_listen", "", _streams),
        prometheus=setting("prometheus", DEFAULT_PROMETHEUS, _address_or_none),
        control=setting("control", DEFAULT_CONTROL, _address_or_none),
        trace_key=setting("trace_key", "", _trace_key),
    )


def _store(url: str) -> str:
    open_store(url)
    return url


def _address_or_none(text: str) -> Address | None:
    return _address(text) if text else None


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f"expected HOST:PORT with an IPv6 address in brackets, got {text!r}")
    return host[1:-1] if bracketed else host, int(port)


def _trace_key(text: str) -> str | None:
    if text and (len(text) < LEAST_TRACE_KEY or not text.isascii() or not text.isprintable() or " " in text):
        raise ValueError(f"expected {LEAST_TRACE_KEY} characters or more of printable ASCII without blanks")
    return text or None


def _streams(text: str) -> tuple[StreamListen, ...]:
    return tuple(_stream(part.strip()) for part in text.split(",") if part.strip())


def _stream(text: str) -> StreamListen:
    scheme, separator, address = text.rpartition("://")
    if separator and scheme not in ("tcp", "tls"):
        raise ValueError(f"expected HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT, got {text!r}")
    return StreamListen(*_address(address), scheme == "tls")


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
