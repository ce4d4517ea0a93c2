"""echo: text around, or in the place of, a response's body: for trying things out."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.plugin.fields import HeaderName, HeaderValue, at_least_one_of
from shared.plugin.plugin import Phase, Plugin
from shared.plugin.request import Request, Response
from shared.schema.common import Maybe, Spec, Text


class EchoConfig(Spec):
    before_body: Maybe[Text] = None
    body: Maybe[Text] = None
    after_body: Maybe[Text] = None
    headers: Maybe[Annotated[dict[HeaderName, HeaderValue], Field(min_length=1)]] = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        at_least_one_of(self, "before_body", "body", "after_body", "headers")
        return self


class Echo(Plugin[EchoConfig]):
    name = "echo"
    priority = 412
    Config = EchoConfig

    def __init__(self, config: EchoConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._before = (config.before_body or "").encode()
        self._body = None if config.body is None else config.body.encode()
        self._after = (config.after_body or "").encode()
        self._changes_body = bool(self._before or self._after) or self._body is not None

    def phases(self) -> frozenset[Phase]:
        return frozenset({"header_filter", "body_filter"} if self._changes_body else {"header_filter"})

    def header_filter(self, request: Request, response: Response) -> None:
        if self._changes_body:
            for name in ("ETag", "Last-Modified"):
                response.remove_header(name)
        for name, value in (self.config.headers or {}).items():
            response.set_header(name, value)

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        if self not in request.context:
            request.context[self] = True
            data = self._before + (data if self._body is None else self._body)
        elif self._body is not None:
            data = b""
        return data + self._after if eos else data
