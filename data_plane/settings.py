"""What the data plane can be told: an option beats its variable, the variable the file, the file the default.

The law: whatever is wrong with a setting is one line that names where it stands, before anything is started. The file is the
one that `waspgate` reads, so it may say things that are for the control plane; what nobody knows is refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from shared.secrets.sources import check_keys, check_keys_file
from shared.settings_file import OF_THE_CONTROL_PLANE, SettingsFileError, as_text, read_settings
from shared.store.url import check_gateway_file, gateway_file_url, open_store
from shared.tuning import NAMES, READERS, Tuning

T = TypeVar("T")
Address = tuple[str, int]

DEFAULT_LISTEN = "127.0.0.1:9080"
DEFAULT_WORKERS = "1"
# APISIX's ports.
DEFAULT_PROMETHEUS = "127.0.0.1:9091"
DEFAULT_CONTROL = "127.0.0.1:9090"
# APISIX has 9443 unless it is told otherwise; here there is no TLS before somebody wants it.
DEFAULT_TLS_LISTEN = ""
DEFAULT_STATUS = "127.0.0.1:7085"
MOST_WORKERS = 1024
# Of these an empty text is a value: off.
MAY_BE_EMPTY = ("prometheus", "control", "status")
STANDALONE_AND_STORE = (
    "--config names a gateway's whole configuration (.yaml, .yml or .json), and there is a store as well (--store or "
    "WASPGATE_STORE): only one of them can be served; a file of settings is TOML"
)
# Of a trace key: what it shows are other people's requests.
LEAST_TRACE_KEY = 16


class SettingsError(ValueError):
    """One line for the operator."""


@dataclass(frozen=True, slots=True)
class StreamListen:
    """Where TCP connections come in. `sniffs`: they begin with a ClientHello, which says for whom they are. `terminates`: they
    are TLS, which ends here."""

    host: str
    port: int
    sniffs: bool
    terminates: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "tls-terminate" if self.terminates else "tls" if self.sniffs else "tcp"
        return f"{scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """`prometheus`, `control` and `status` are None where those pages are off, `trace_key` where no request can be traced,
    `tls` where no TLS is spoken."""

    store: str
    host: str
    port: int
    workers: int
    streams: tuple[StreamListen, ...] = ()
    prometheus: Address | None = None
    control: Address | None = None
    trace_key: str | None = None
    status: Address | None = None
    tls: Address | None = None
    tuning: Tuning = field(default_factory=Tuning)
    # As they are set: each worker makes its keyring of them.
    encryption_keys: str = field(default="", repr=False)
    encryption_keys_file: str = ""

    @property
    def address(self) -> str:
        return shown((self.host, self.port))


def shown(address: Address) -> str:
    """As an operator writes it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Sources:
    """Where a setting may stand, in the order in which one beats the other."""

    def __init__(self, options: Mapping[str, str | None], environment: Mapping[str, str]) -> None:
        """Raises SettingsError."""
        self._options = options
        self._environment = environment
        self._file, self._written = _file(options.get("config") or environment.get("WASPGATE_CONFIG"))
        if "store" in self._written and not self._file and (options.get("store") or environment.get("WASPGATE_STORE")):
            raise SettingsError(STANDALONE_AND_STORE)
        self._asked = set(OF_THE_CONTROL_PLANE)

    def setting(self, name: str, default: str | None, read: Callable[[str], T]) -> T:
        """Raises SettingsError."""
        self._asked.add(name)
        origin, text = self._find(name)
        if text is None or (not text and name not in MAY_BE_EMPTY):
            text = default
        if text is None:
            raise SettingsError(f"--{name} (or WASPGATE_{name.upper()}) is needed")
        try:
            return read(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}") from error

    def _find(self, name: str) -> tuple[str, str | None]:
        variable = f"WASPGATE_{name.upper()}"
        given = self._options.get(name)
        if given is not None:
            return f"--{name.replace('_', '-')}", given
        said = self._environment.get(variable)
        if said or (said is not None and (name in MAY_BE_EMPTY or name not in self._written)):
            return variable, said
        if name in self._written:
            # A gateway's configuration is itself the store, and no file of settings.
            return f"{self._file}: {name}" if self._file else "--config", as_text(self._written[name])
        return variable, None

    def check(self) -> None:
        """Once everything was asked for: nobody knows the rest. Raises SettingsError."""
        unknown = sorted(self._written.keys() - self._asked)
        if unknown:
            raise SettingsError(f"{self._file}: {unknown[0]}: unknown setting; known are {', '.join(sorted(self._asked))}")


def _file(path: str | None) -> tuple[str, dict[str, Any]]:
    if not path:
        return "", {}
    standalone = gateway_file_url(Path(path))
    if standalone is not None:
        return "", {"store": standalone}
    try:
        return path, read_settings(Path(path))
    except SettingsFileError as error:
        raise SettingsError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_plane", description="Waspgate's data plane.")
    parser.add_argument("--store", metavar="URL", help="sqlite:///PATH or etcd://HOST:PORT (WASPGATE_STORE)")
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"default {DEFAULT_LISTEN} (WASPGATE_LISTEN)")
    parser.add_argument("--tls-listen", metavar="HOST:PORT", help="for TLS, default none (WASPGATE_TLS_LISTEN)")
    parser.add_argument("--workers", metavar="N", help=f"default {DEFAULT_WORKERS} (WASPGATE_WORKERS)")
    streams = "for TCP, repeatable (WASPGATE_STREAM_LISTEN: A,B)"
    parser.add_argument("--stream-listen", metavar="[SCHEME://]HOST:PORT", action="append", help=streams)
    parser.add_argument("--grace", metavar="SECONDS", help=f"for draining, default {Tuning().grace:g} (WASPGATE_GRACE)")
    parser.add_argument("--prometheus", metavar="HOST:PORT", help=f"default {DEFAULT_PROMETHEUS} (WASPGATE_PROMETHEUS)")
    parser.add_argument("--control", metavar="HOST:PORT", help=f"default {DEFAULT_CONTROL} (WASPGATE_CONTROL)")
    parser.add_argument("--status", metavar="HOST:PORT", help=f"default {DEFAULT_STATUS} (WASPGATE_STATUS)")
    parser.add_argument("--trace-key", metavar="KEY", help="requests with it are traced, default none (WASPGATE_TRACE_KEY)")
    parser.add_argument("--encryption-keys-file", metavar="FILE", help="of secrets (WASPGATE_ENCRYPTION_KEYS_FILE)")
    parser.add_argument("--config", metavar="FILE", help="these settings as TOML, and more of them (WASPGATE_CONFIG)")
    return parser


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError; ends the process for `--help` and for options that do not exist."""
    options = vars(_parser().parse_args(arguments))
    if options["stream_listen"] is not None:
        options["stream_listen"] = ",".join(options["stream_listen"])
    sources = Sources(options, environment)
    setting = sources.setting
    host, port = setting("listen", DEFAULT_LISTEN, _address)
    settings = Settings(
        store=setting("store", None, _store),
        host=host,
        port=port,
        workers=setting("workers", DEFAULT_WORKERS, _workers),
        streams=setting("stream_listen", "", _streams),
        tls=setting("tls_listen", DEFAULT_TLS_LISTEN, _address_or_none),
        prometheus=setting("prometheus", DEFAULT_PROMETHEUS, _address_or_none),
        control=setting("control", DEFAULT_CONTROL, _address_or_none),
        status=setting("status", DEFAULT_STATUS, _address_or_none),
        trace_key=setting("trace_key", "", _trace_key),
        tuning=_tuning(setting),
        encryption_keys=setting("encryption_keys", "", _keys),
        encryption_keys_file=setting("encryption_keys_file", "", _keys_file),
    )
    sources.check()
    if settings.tuning.proxy_protocol and not settings.tuning.trusted_addresses:
        raise SettingsError("proxy_protocol: nobody may say whose a connection is unless trusted_addresses names him")
    return settings


def _tuning(setting: Callable[[str, str | None, Callable[[str], Any]], Any]) -> Tuning:
    """By name, so that what is left out has its default."""
    defaults = Tuning()
    return Tuning(**{name: setting(name, as_text(getattr(defaults, name)), READERS[name]) for name in NAMES})


def _store(url: str) -> str:
    open_store(url)
    check_gateway_file(url)
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
    found = tuple(_stream(part.strip()) for part in text.split(",") if part.strip())
    for item in found:
        if found.count(item) > 1:
            raise ValueError(f"{item} stands there twice")
    return found


def _stream(text: str) -> StreamListen:
    scheme, separator, address = text.rpartition("://")
    if separator and scheme not in ("tcp", "tls", "tls-terminate"):
        raise ValueError(f"expected HOST:PORT, tcp://, tls:// or tls-terminate://HOST:PORT, got {text!r}")
    return StreamListen(*_address(address), scheme == "tls", scheme == "tls-terminate")


def _keys(text: str) -> str:
    return check_keys(text) if text else ""


def _keys_file(text: str) -> str:
    return check_keys_file(text) if text else ""


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError(f"expected a number from 1 to {MOST_WORKERS}, got {text!r}")
    return int(text)
