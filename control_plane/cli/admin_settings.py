"""What the settings say of the Admin API's security: who has a key and what it is for, TLS, who may be in front.

The law: a key is written as itself or as its hash, and never shown again; a list of the file is text with commas in a variable.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from control_plane.auth.hashing import check_hash
from shared.keys import KINDS, Kind
from shared.networks import Network, parse_networks

_NAME = r"^[A-Za-z0-9_.@-]{1,64}$"


def _networks(given: object) -> tuple[Network, ...]:
    if isinstance(given, list | tuple):
        given = ",".join(map(str, given))
    if not isinstance(given, str):
        raise ValueError(f"expected addresses and networks, got {given!r}")
    return parse_networks(given)


def _names(given: object) -> tuple[str, ...]:
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, list | tuple):
        raise ValueError(f"expected names of hosts, got {given!r}")
    names = tuple(str(part).strip().lower() for part in parts if str(part).strip())
    for name in names:
        if not re.fullmatch(r"[a-z0-9._-]{1,253}", name):
            raise ValueError(f"expected names of hosts without ports, got {name!r}")
    return names


def _hash(given: str) -> str:
    check_hash(given)
    return given


def _kinds(given: object) -> object:
    parts = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    for name in parts if isinstance(parts, list | tuple) else ():
        if name not in KINDS:
            raise ValueError(f"expected kinds of resources ({', '.join(KINDS)}), got {name!r}")
    return parts


def _file_to_write(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ValueError(f"there is no directory {path.parent}")
    return path.absolute()


Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_names)]
FileToWrite = Annotated[Path, AfterValidator(_file_to_write)]


class AdminKeySetting(BaseModel):
    """One of `admin_keys`. Without `resources` and `addresses` it is for all kinds, and good from everywhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=_NAME)]
    role: Literal["admin", "viewer"]
    key: Annotated[SecretStr, Field(min_length=16)] | None = None
    key_hash: Annotated[str, AfterValidator(_hash)] | None = None
    resources: Annotated[tuple[Kind, ...], BeforeValidator(_kinds), Field(min_length=1)] | None = None
    addresses: Networks = ()

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        if (self.key is None) is (self.key_hash is None):
            raise ValueError(f"key {self.name}: expected one of `key` and `key_hash`")
        return self


def _unique(keys: tuple[AdminKeySetting, ...]) -> tuple[AdminKeySetting, ...]:
    names = [key.name for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two keys have the name {name!r}")
    return keys


def _tables(given: Any) -> object:  # noqa: ANN401 - whatever the file says
    if isinstance(given, str):
        raise ValueError("this stands in the settings file only: [[admin_keys]] with name, role and key or key_hash")
    return given


AdminKeys = Annotated[tuple[AdminKeySetting, ...], BeforeValidator(_tables), AfterValidator(_unique)]
