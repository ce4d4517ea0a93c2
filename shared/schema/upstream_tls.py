"""How the gateway speaks TLS to the servers of an upstream.

The law: a certificate comes with its key and both are loaded here, so that what passes can be shown to a server. It is given as
text or as the id of an `ssls` object of type client, not both.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from shared.schema.common import Maybe, ReferenceId, Spec
from shared.schema.pem import check_certificate, check_pair

Pem = Annotated[str, Field(min_length=64, max_length=65536)]


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("tls", "{text}", {"text": text})


class TlsSpec(Spec):
    """`verify` left out is the default of the scheme: on for https and grpcs; off for tls, as in APISIX."""

    verify: Maybe[bool] = None
    client_cert: Maybe[Pem] = None
    client_key: Maybe[Pem] = Field(default=None, repr=False)
    client_cert_id: Maybe[ReferenceId] = None

    @model_validator(mode="after")
    def _is_a_pair(self) -> Self:
        if (self.client_cert is None) is not (self.client_key is None):
            missing, given = ("client_key", "client_cert") if self.client_key is None else ("client_cert", "client_key")
            raise _refuse(f"`{given}` needs `{missing}`")
        if self.client_cert is not None and self.client_cert_id is not None:
            raise _refuse("expected `client_cert` with `client_key`, or `client_cert_id`, got both")
        if self.client_cert is not None and self.client_key is not None:
            try:
                check_certificate(self.client_cert)
                check_pair(self.client_cert, self.client_key)
            except ValueError as error:
                raise _refuse(f"`client_cert`: {error}") from error
        return self
