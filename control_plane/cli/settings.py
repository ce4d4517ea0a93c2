"""The settings of the commands: an option beats the environment, the environment the file, the file a default.

The law: a setting has one name everywhere (`--admin-key`, `WASPGATE_ADMIN_KEY`, `admin_key` in the file), and an error
says in which of the sources the wrong value stands. What the file says to the data plane is checked here and read there, again
whenever it is reloaded.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from control_plane.cli.admin_settings import AdminKeys, FileToWrite, Hosts, Networks
from control_plane.cli.errors import USAGE, CommandError
from shared.settings_file import SettingsFileError, as_text, read_settings
from shared.store.url import gateway_file_url, is_read_only, open_store
from shared.tuning import NAMES, READERS

PREFIX = "WASPGATE_"
MAY_BE_EMPTY = ("prometheus", "control", "status", "tls_listen")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. IPv6 addresses are written in brackets, as in a URL."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> Self:
        host, colon, port = str(text).rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or not host:
            raise ValueError(f"expected HOST:PORT, got {str(text)!r}")
        if ":" in host and not bracketed:
            raise ValueError(f"expected an IPv6 address in brackets, as [::1]:9080, got {str(text)!r}")
        return cls(host[1:-1] if bracketed else host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def state_directory() -> Path:
    """Where the gateway keeps what it must not lose, unless it is told otherwise: the XDG state directory."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "waspgate"


def _store_url(url: str) -> str:
    open_store(url)  # says what is wrong with the URL, and connects to nothing yet
    return url


def _default_store() -> str:
    return f"sqlite://{quote(str(state_directory() / 'config.db'))}"


def _readable(path: Path) -> Path:
    if not os.access(path, os.R_OK) or not path.is_file():
        raise ValueError(f"there is no file {path} that can be read")
    return path.absolute()


AddressSetting = Annotated[Address, BeforeValidator(Address.parse)]


def _trace_key(secret: SecretStr) -> SecretStr:
    """It is a header's value, and what it shows are other people's requests."""
    if not re.fullmatch("[!-~]{16,}", secret.get_secret_value()):
        raise ValueError("expected 16 characters or more of printable ASCII without blanks")
    return secret


def _stream_addresses(given: object) -> object:
    """`HOST:PORT` or `tls://HOST:PORT`, in a list or with commas between them."""
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, list | tuple):
        raise ValueError(f"expected a list of addresses, got {given!r}")
    return tuple(_stream_address(str(part).strip()) for part in parts if str(part).strip())


def _stream_address(text: str) -> str:
    scheme, separator, address = text.rpartition("://")
    if separator and scheme not in ("tcp", "tls", "tls-terminate"):
        raise ValueError(f"expected HOST:PORT, tcp://, tls:// or tls-terminate://HOST:PORT, got {text!r}")
    return f"{scheme or 'tcp'}://{Address.parse(address)}"


StreamAddresses = Annotated[tuple[str, ...], BeforeValidator(_stream_addresses)]
# An empty text is off.
PageSetting = Annotated[Address | None, BeforeValidator(lambda text: Address.parse(text) if text else None)]


def _encryption_keys(secret: SecretStr) -> SecretStr:
    # Cryptography takes long to import: those pay for it who have keys.
    from shared.secrets.sources import check_keys

    check_keys(secret.get_secret_value())
    return secret


def _keys_file(path: Path) -> Path:
    from shared.secrets.sources import check_keys_file

    return Path(check_keys_file(str(path))).absolute()


class Settings(BaseModel):
    """What `up`, `control-plane` and `data-plane` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: Annotated[str, AfterValidator(_store_url)] = Field(default_factory=_default_store)
    admin: AddressSetting = Address("127.0.0.1", 9180)
    listen: AddressSetting = Address("127.0.0.1", 9080)
    stream_listen: StreamAddresses = ()
    tls_listen: PageSetting = None
    # One, because a worker has its own plugin contexts and counters: several are a choice, not a surprise.
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    prometheus: PageSetting = Address("127.0.0.1", 9091)
    trace_key: Annotated[SecretStr, AfterValidator(_trace_key)] | None = None
    control: PageSetting = Address("127.0.0.1", 9090)
    status: PageSetting = Address("127.0.0.1", 7085)
    admin_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    admin_key_file: Annotated[Path, AfterValidator(_readable)] | None = None
    # Other keys, with a role and limits.
    admin_keys: AdminKeys = ()
    # Who may come, under which names, and through which proxies.
    admin_allow: Networks = ()
    admin_hosts: Hosts = ()
    admin_trusted_addresses: Networks = ()
    admin_tls_cert: Annotated[Path, AfterValidator(_readable)] | None = None
    admin_tls_key: Annotated[Path, AfterValidator(_readable)] | None = None
    admin_client_ca: Annotated[Path, AfterValidator(_readable)] | None = None
    allow_plain_admin: bool = False
    audit_log: FileToWrite | None = None
    # Of secrets in the store.
    encryption_keys: Annotated[SecretStr, AfterValidator(_encryption_keys)] | None = None
    encryption_keys_file: Annotated[Path, AfterValidator(_keys_file)] | None = None
    # Where the control plane may fetch modules from, and who it is there.
    allow_private_module_sources: bool = False
    registry_config: Annotated[Path, AfterValidator(_readable)] | None = None

    # What options and variables say, as text, and the file that has the rest.
    _said: dict[str, str] = PrivateAttr(default_factory=dict)
    _file: Path | None = PrivateAttr(default=None)

    def variables(self) -> dict[str, str]:
        """For a process that reads the file itself."""
        said = {f"{PREFIX}{name.upper()}": text for name, text in self._said.items()}
        if self._file is not None:
            said[f"{PREFIX}CONFIG"] = str(self._file.absolute())
        return said

    @property
    def key_directory(self) -> Path:
        """Where a key is made when none is given: beside the data, or in the state directory when etcd has the data."""
        parts = urlsplit(self.store)
        if parts.scheme != "sqlite":
            return state_directory()
        relative = parts.path.startswith(("/./", "/../"))
        return Path(unquote(parts.path[1:] if relative else parts.path)).parent

    @property
    def store_without_password(self) -> str:
        return re.sub(r"//[^/@]*@", "//***@", self.store)


def load_settings(options: Mapping[str, Any], config: Path | None, *, standalone: bool = False) -> Settings:
    """Merge the sources and check the result. Raises CommandError. With `standalone` the file may be a gateway's whole
    configuration instead of settings."""
    given = {name: value for name, value in options.items() if value is not None}
    variables = {name: f"{PREFIX}{name.upper()}" for name in (*Settings.model_fields, *NAMES)}
    environment = {name: os.environ[variable] for name, variable in variables.items() if _given(name, variable)}
    file = config or _path_from_environment()
    gateway = None if file is None else gateway_file_url(file)
    if gateway is not None:
        _check_standalone(standalone, str(file), given.get("store") or environment.get("store"))
        file, given["store"] = None, gateway
    written = {} if file is None else _read_file(file)
    origins = {name: f"{file}: {name}" for name in written}
    origins |= {name: variables[name] for name in environment}
    origins |= {name: f"--{name.replace('_', '-')}" for name in given}
    merged = {**written, **environment, **given}
    for name in NAMES:
        if name in merged:
            _check_tuning(name, merged.pop(name), origins[name])
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise CommandError(_explain(error, origins), USAGE) from error
    if settings.admin_key is not None and settings.admin_key_file is not None:
        raise CommandError(f"{origins['admin_key']} and {origins['admin_key_file']}: give one of the two", USAGE)
    if is_read_only(settings.store) and not standalone:
        raise CommandError(f"{origins['store']}: a configuration file is for `waspgate data-plane` alone", USAGE)
    settings._file = file
    settings._said = {name: as_text(value) for name, value in {**environment, **given}.items()}
    if "store" not in written:
        settings._said["store"] = settings.store
    return settings


def _check_standalone(standalone: bool, file: str, store: object) -> None:
    if not standalone:
        raise CommandError(f"{file} is a gateway's whole configuration, for `waspgate data-plane`: settings are TOML", USAGE)
    if store is not None:
        raise CommandError(
            f"{file} is a gateway's whole configuration, and there is a store as well (--store or WASPGATE_STORE): only one of "
            "them can be served",
            USAGE,
        )


def _check_tuning(name: str, value: object, origin: str) -> None:
    try:
        READERS[name](as_text(value))
    except ValueError as error:
        raise CommandError(f"{origin}: {error}", USAGE) from error


def _given(name: str, variable: str) -> bool:
    """An empty variable says nothing, but where an empty text is a value."""
    return bool(os.environ.get(variable)) or (name in MAY_BE_EMPTY and variable in os.environ)


def check_exposure(settings: Settings) -> None:
    """A key that was made silently must not guard an Admin API that the network can reach."""
    chosen = settings.admin_key or settings.admin_key_file or settings.admin_keys
    if not chosen and not settings.admin.is_loopback:
        raise CommandError(
            f"the Admin API on {settings.admin} can be reached by others: choose its key with --admin-key-file, --admin-key or "
            "WASPGATE_ADMIN_KEY, or listen on a loopback address",
            USAGE,
        )
    check_tls(settings)


def check_tls(settings: Settings) -> None:
    """A key that others can listen to is no secret. Raises CommandError."""
    if (settings.admin_tls_cert is None) is not (settings.admin_tls_key is None):
        raise CommandError("admin_tls_cert and admin_tls_key: one needs the other", USAGE)
    if settings.admin_client_ca is not None and settings.admin_tls_cert is None:
        raise CommandError("admin_client_ca: certificates of clients are asked for over TLS only, set admin_tls_cert", USAGE)
    if settings.admin_tls_cert is None and not settings.admin.is_loopback and not settings.allow_plain_admin:
        raise CommandError(
            f"the Admin API on {settings.admin} can be reached by others, and its key would travel in the clear: set "
            "--admin-tls-cert and --admin-tls-key, or say --allow-plain-admin",
            USAGE,
        )


def _path_from_environment() -> Path | None:
    path = os.environ.get(f"{PREFIX}CONFIG")
    return Path(path) if path else None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return read_settings(path)
    except SettingsFileError as error:
        raise CommandError(str(error), USAGE) from error


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{origins[name]}: unknown setting; known are {', '.join((*Settings.model_fields, *NAMES))}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{origins[name]}: {message[:1].lower()}{message[1:]}")
    return "; ".join(lines)
