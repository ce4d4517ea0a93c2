"""Certificates: what the gateway shows to clients by the name that they ask for, and what it shows to upstreams.

The law: a document that passes can be served: every key belongs to its certificate, every name can be asked for. A document of
type `server` has names, one of type `client` has none and is referred to by upstreams.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.schema.common import Array, Described, Maybe, SomeUnique, Spec, Status
from shared.schema.pem import check_certificate, check_pair, load_chain
from shared.secrets.references import has_references, is_reference
from shared.server_name import parse_server_name

PROTOCOLS = ("TLSv1.1", "TLSv1.2", "TLSv1.3")
DEFAULT_PROTOCOLS = ("TLSv1.2", "TLSv1.3")
# OpenSSL follows no chain that is longer.
MOST_DEPTH = 100


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("ssl", "{text}", {"text": text})


def _server_name(value: str) -> str:
    try:
        parse_server_name(value)
    except ValueError as error:
        raise _refuse(str(error)) from error
    return value


def _certificate(value: str) -> str:
    try:
        check_certificate(value)
    except ValueError as error:
        raise _refuse(f"failed to parse cert: {error}") from error
    return value


def _authorities(value: str) -> str:
    try:
        load_chain(value)
    except ValueError as error:
        raise _refuse(f"failed to validate client_cert: {error}") from error
    return value


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise _refuse(f"not a regular expression: {error}") from error
    return value


ServerName = Annotated[str, Field(min_length=1), AfterValidator(_server_name)]


def _unless_reference(value: object, check: ValidatorFunctionWrapHandler) -> str:
    """A worker reads what the reference stands for in its place."""
    return value if isinstance(value, str) and is_reference(value) else check(value)


Certificate = Annotated[
    str, Field(min_length=128, max_length=65536), AfterValidator(_certificate), WrapValidator(_unless_reference)
]
Authorities = Annotated[str, Field(min_length=128, max_length=262144), AfterValidator(_authorities)]
Key = Annotated[str, Field(min_length=64, max_length=65536), WrapValidator(_unless_reference)]
Expression = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_expression)]
Protocol = Literal["TLSv1.1", "TLSv1.2", "TLSv1.3"]


class ClientSpec(Spec):
    """Who may connect: those with a certificate of these authorities, over so many others between."""

    ca: Authorities
    depth: Annotated[int, Field(ge=0, le=MOST_DEPTH)] = 1
    skip_mtls_uri_regex: Maybe[SomeUnique[Expression]] = None


class SslSpec(Described):
    type: Literal["server", "client"] = "server"
    cert: Certificate
    key: Key = Field(repr=False)
    certs: Maybe[Array[Certificate]] = None
    keys: Maybe[Array[Key]] = Field(default=None, repr=False)
    sni: Maybe[ServerName] = None
    snis: Maybe[SomeUnique[ServerName]] = None
    client: Maybe[ClientSpec] = None
    ssl_protocols: Maybe[SomeUnique[Protocol]] = None
    status: Status = 1

    @property
    def names(self) -> tuple[str, ...]:
        return self.snis or (() if self.sni is None else (self.sni,))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Certificates with their keys; a client's handshake takes the first that suits it."""
        return ((self.cert, self.key), *zip(self.certs or (), self.keys or (), strict=True))

    @field_validator("key")
    @classmethod
    def _belongs(cls, key: str, info: ValidationInfo) -> str:
        cert = info.data.get("cert")
        if cert is not None and not has_references((cert, key)):
            try:
                check_pair(cert, key)
            except ValueError as error:
                raise _refuse(str(error)) from error
        return key

    @field_validator("keys")
    @classmethod
    def _each_belongs(cls, keys: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        # Their number is looked at when all is there.
        for number, (cert, key) in enumerate(zip(info.data.get("certs") or (), keys or (), strict=False), start=1):
            if has_references((cert, key)):
                continue
            try:
                check_pair(cert, key)
            except ValueError as error:
                raise _refuse(f"failed to handle cert-key pair[{number}]: {error}") from error
        return keys

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.certs or ()) != len(self.keys or ()):
            raise _refuse("mismatched number of certs and keys")
        if self.type == "client":
            if self.names or self.client is not None:
                raise _refuse('an object of type "client" has no "sni", "snis" and "client"')
        elif (self.sni is None) is (self.snis is None):
            raise _refuse('object matches none or both of the required: ["sni"] or ["snis"]')
        return self
