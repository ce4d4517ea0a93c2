"""response-rewrite: another status, headers or body for the client.

The law: `vars` are asked when the response's head is here (`status` is its status), and then all of it is done or nothing. A
body that filters search is held to its end, `HELD_BYTES` of it at most; a longer one, and one in a coding other than gzip or
deflate, passes as it is, since half of a body is searched by no expression that means all of it. One that is longer only when
it is unpacked is cut: what its packed form was is not known any more.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from shared.expression.language import ExpressionError, compile_expression
from shared.plugin.fields import ResponseHeaderChanges, Status, header_changes, refused
from shared.plugin.header_edits import response_edits
from shared.plugin.plugin import Phase, Plugin
from shared.plugin.request import Request, Response
from shared.plugin.template import Template, compile_replacement
from shared.regex import Match, Regex, compile_regex
from shared.schema.common import Array, Maybe, Spec

# As much as APISIX's other plugins hold of a body; a larger one is a download, no page.
HELD_BYTES = 8 * 1024 * 1024
# What says of a body that is no longer what the client gets.
_OF_BODY = ("ETag", "Last-Modified", "Content-MD5", "Digest", "Repr-Digest", "Content-Digest", "Accept-Ranges")
_FLAGS = frozenset("ijosmUuax")


def _vars(rules: list[Any]) -> list[Any]:
    try:
        expression = compile_expression(rules)
    except ExpressionError as error:
        raise refused(f"failed to validate the 'vars' expression: {error}") from None
    if expression.needs_body:
        raise refused("an expression about the request's body cannot decide here: the body is not kept")
    return rules


class FilterSpec(Spec):
    """`options` are those of ngx.re; those that only tell how to match (j, o, u) change nothing."""

    regex: Annotated[str, Field(min_length=1, max_length=4096)]
    scope: Literal["once", "global"] = "once"
    replace: str
    options: Annotated[str, Field(max_length=8)] = "jo"

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            regex = self.compiled()
            compile_replacement(self.replace, regex.groups)
        except ValueError as error:
            raise refused(f"regex {self.regex!r}: {error}") from None
        return self

    def compiled(self) -> Regex:
        """Raises ValueError."""
        unknown = set(self.options) - _FLAGS
        if unknown:
            raise ValueError(f"unknown options {''.join(sorted(unknown))!r}")
        if "x" in self.options:
            raise ValueError("option x (white space in expressions) is not supported")
        flags = "".join(flag for flag in "sm" if flag in self.options)
        pattern = f"(?{flags}){self.regex}" if flags else self.regex
        return compile_regex(rf"\A(?:{pattern})" if "a" in self.options else pattern, ignore_case="i" in self.options)


class ResponseRewriteConfig(Spec):
    status_code: Maybe[Status] = None
    body: Maybe[str] = None
    body_base64: bool = False
    headers: Maybe[Annotated[ResponseHeaderChanges, BeforeValidator(header_changes)]] = None
    vars: Maybe[Annotated[list[Any], AfterValidator(_vars)]] = None
    filters: Maybe[Annotated[Array[FilterSpec], Field(min_length=1)]] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.body is not None and self.filters is not None:
            raise refused("value wasn't supposed to match schema: body and filters exclude each other")
        if self.body_base64:
            if not self.body:
                raise refused("invalid base64 content: there is no body")
            try:
                base64.b64decode(self.body, validate=True)
            except (binascii.Error, ValueError):
                raise refused("invalid base64 content") from None
        return self


class ResponseRewrite(Plugin[ResponseRewriteConfig]):
    name = "response-rewrite"
    priority = 899
    Config = ResponseRewriteConfig

    def __init__(self, config: ResponseRewriteConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._matches = None if config.vars is None else compile_expression(config.vars).matches
        self._edits = response_edits(config.headers)
        self._body = None
        if config.body is not None:
            self._body = base64.b64decode(config.body) if config.body_base64 else config.body.encode()
        self._filters = tuple(BodyFilter(spec) for spec in config.filters or ())

    def phases(self) -> frozenset[Phase]:
        changes_body = self._body is not None or bool(self._filters)
        return frozenset({"header_filter", "body_filter"}) if changes_body else frozenset({"header_filter"})

    def header_filter(self, request: Request, response: Response) -> None:
        if self._matches is not None:
            variables = request.variables
            variables.status = response.status
            if not self._matches(variables):
                return
        if self.config.status_code is not None:
            response.set_status(self.config.status_code)
        if self._body is not None or self._filters:
            self._begin_body(request, response)
        if self._edits:
            self._edits.apply(response, request)

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        held: HeldBody | None = request.context.get(self)
        if held is None:
            return data
        if self._body is not None:
            return self._body if eos else b""
        if not held.add(data):
            del request.context[self]
            return held.taken()
        return held.filtered(self._filters, request) if eos else b""

    def _begin_body(self, request: Request, response: Response) -> None:
        coding = (response.header("content-encoding") or "identity").lower()
        if self._body is None and coding not in ("identity", "gzip", "deflate"):
            return
        request.context[self] = HeldBody(coding)
        for name in (*_OF_BODY, "Content-Encoding"):
            response.remove_header(name)


class BodyFilter:
    def __init__(self, spec: FilterSpec) -> None:
        self._regex = spec.compiled()
        self._replacement: Template = compile_replacement(spec.replace, self._regex.groups)
        self._count = 1 if spec.scope == "once" else 0

    def apply(self, body: bytes, request: Request) -> bytes:
        template = self._replacement

        def replaced(match: Match) -> bytes:
            return template.render(request, match).encode("utf-8", "surrogateescape")

        return self._regex.sub(replaced, body, self._count)


class HeldBody:
    """The pieces so far, unpacked as they come."""

    __slots__ = ("_inflate", "_pieces", "_size")

    def __init__(self, coding: str) -> None:
        # 32 + 15: a gzip or a zlib header, as it comes.
        self._inflate = None if coding == "identity" else zlib.decompressobj(32 + zlib.MAX_WBITS)
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> bool:
        """False when there is more than can be held. Raises zlib.error, and ValueError for too much when it is unpacked."""
        if self._inflate is not None:
            data = self._inflate.decompress(data, HELD_BYTES + 1 - self._size)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > HELD_BYTES and self._inflate is not None:
            raise ValueError(f"the unpacked body has more than {HELD_BYTES} bytes")
        return self._size <= HELD_BYTES

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def filtered(self, filters: tuple[BodyFilter, ...], request: Request) -> bytes:
        body = self.taken()
        for one in filters:
            body = one.apply(body, request)
        return body
