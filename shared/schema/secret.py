"""Where secrets are kept that configurations only refer to: `secrets/{manager}/{id}`, named by `$secret://{manager}/{id}/...`.

The law: what a manager is told depends on its kind, which is the first part of the id; only managers that a worker can ask are
taken. No answer and no log shows a token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from shared.schema.common import Maybe, Spec
from shared.schema.errors import Problem, SchemaError, from_validation

# APISIX's other managers.
LATER = ("aws", "gcp")


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise PydanticCustomError("uri", "expected http://HOST:PORT or https://HOST:PORT, got {given}", {"given": value[:80]})
    return value.rstrip("/")


def _path(value: str) -> str:
    path = value.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", path) or {".", ".."} & set(path.split("/")):
        raise PydanticCustomError("prefix", "expected a path such as kv/apisix, got {given}", {"given": value[:80]})
    return path


# It becomes a header's value.
Token = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[!-~]+$")]


class SecretSpec(Spec):
    """Of any manager: `read_secret` knows which."""

    model_config = ConfigDict(extra="allow")

    @property
    def document(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class VaultSpec(Spec):
    """A KV engine of HashiCorp Vault. A secret is read at `/v1/{prefix}/{path}`; with `kv_version` kv-v2 the `data` that the
    second version wants behind the mount, the first part of the prefix, is put there."""

    uri: Annotated[str, AfterValidator(_address)]
    prefix: Annotated[str, AfterValidator(_path)]
    token: Token = Field(repr=False)
    namespace: Maybe[Annotated[str, AfterValidator(_path)]] = None
    kv_version: Maybe[Literal["kv-v1", "kv-v2"]] = None


# By the first part of the id.
MANAGERS: Mapping[str, type[VaultSpec]] = {"vault": VaultSpec}


def read_secret(secret_id: str, document: Mapping[str, Any]) -> VaultSpec:
    """`secret_id` is `{manager}/{id}`. Raises SchemaError."""
    manager = secret_id.partition("/")[0]
    model = MANAGERS.get(manager)
    if model is None:
        known = f"expected {' or '.join(MANAGERS)}, got {manager}"
        text = f"{manager} is not supported yet" if manager in LATER else f"unknown secret manager: {known}"
        raise SchemaError((Problem("$", text),))
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise from_validation(error, lambda location: tuple(model.model_fields) if not location else ()) from error
