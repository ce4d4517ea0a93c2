"""What gzip and brotli have in common: which responses are compressed, and what their heads then say.

The law: a response is compressed at most once, and only for a client that takes the coding; what no longer holds of it (a
strong ETag, ranges, digests of its bytes) leaves its head. Every piece leaves when it comes, so a stream of events stays one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from shared.plugin.fields import refused
from shared.plugin.plugin import Plugin
from shared.plugin.request import Request, Response
from shared.schema.common import MAX_INT, Array, Spec

MimeType = Annotated[str, Field(min_length=1, max_length=128)]


def _all_types(value: object) -> object:
    return (value,) if value == "*" else value


def _version(value: float) -> float:
    if value not in (1.0, 1.1):
        raise refused(f"expected 1.0 or 1.1, got {value:g}")
    return value


class CompressionConfig(Spec):
    """`min_length` in bytes, for bodies that declare their length."""

    types: Annotated[
        Array[MimeType],
        Field(min_length=1),
        BeforeValidator(_all_types),
        WithJsonSchema({"anyOf": [{"type": "array", "minItems": 1, "items": {"type": "string"}}, {"enum": ["*"]}]}),
    ] = ("text/html",)
    min_length: Annotated[int, Field(ge=1, le=MAX_INT)] = 20
    http_version: Annotated[float, AfterValidator(_version), WithJsonSchema({"enum": [1.0, 1.1]})] = 1.1
    vary: bool = False


class Compressor(Protocol):
    """Of one response."""

    def compress(self, data: bytes, eos: bool) -> bytes:
        """All that the client needs to read this piece."""


C = TypeVar("C", bound=CompressionConfig)

_PLAIN_STATUS = frozenset({204, 206, 304})
# What they say holds of the bytes that the upstream has sent.
_OF_BYTES = ("Accept-Ranges", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest")


class Compression(Plugin[C]):
    """Base of both. `coding` is the content coding's name."""

    coding: str

    def __init__(self, config: C, metadata: object = None) -> None:
        super().__init__(config)
        self._types = None if "*" in config.types else frozenset(name.lower() for name in config.types)
        self._from_version = 1 if config.http_version == 1.1 else 0

    def compressor(self) -> Compressor:
        raise NotImplementedError

    def header_filter(self, request: Request, response: Response) -> None:
        accepted = request.header("accept-encoding")
        takes = accepted is not None and accepts(accepted, self.coding)
        if not (takes or self.config.vary) or not self._may_change(request, response):
            return
        if self.config.vary and not _varies(response):
            response.add_header("Vary", "Accept-Encoding")
        if takes:
            self._begin(request, response)

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        own = request.own
        compressor: Compressor | None = None if own is None else own.context.get(self)
        return data if compressor is None else compressor.compress(data, eos)

    def _may_change(self, request: Request, response: Response) -> bool:
        if response.status in _PLAIN_STATUS or 0 <= response.content_length < self.config.min_length:
            return False
        if request.asked.fields.minor_version < self._from_version or request.asked.method == b"HEAD":
            return False
        # First what most responses fail by.
        if not self._is_listed(response.header("content-type")):
            return False
        if (response.header("content-encoding") or "identity").lower() != "identity" or response.header("content-range"):
            return False
        return not _forbids(request) and not _forbids(response)

    def _is_listed(self, content_type: str | None) -> bool:
        if content_type is None:
            return False
        return self._types is None or content_type.partition(";")[0].strip().lower() in self._types

    def _begin(self, request: Request, response: Response) -> None:
        request.context[self] = self.compressor()
        for name in _OF_BYTES:
            response.remove_header(name)
        tag = response.header("etag")
        if tag is not None and not tag.startswith("W/"):
            response.set_header("ETag", f"W/{tag}")
        response.set_header("Content-Encoding", self.coding)


# Browsers send a handful of these; what others send is bounded here.
@lru_cache(maxsize=256)
def accepts(field: str, coding: str) -> bool:
    """Whether an Accept-Encoding takes the coding (RFC 9110, section 12.5.3)."""
    quality: float | None = None
    for item in field.lower().split(","):
        name, _, parameter = item.partition(";")
        name = name.strip()
        if name == coding:
            return _weight(parameter) > 0
        if name == "*":
            quality = _weight(parameter)
    return bool(quality)


def _weight(parameter: str) -> float:
    name, mark, value = parameter.partition("=")
    if not mark or name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _varies(response: Response) -> bool:
    names = {name.strip().lower() for line in response.header_values("vary") for name in line.split(",")}
    return bool(names & {"*", "accept-encoding"})


def _forbids(head: Any) -> bool:  # noqa: ANN401 - a request or a response
    """Cache-Control: no-transform (RFC 9111, sections 5.2.1.6 and 5.2.2.6)."""
    return "no-transform" in (head.header("cache-control") or "").lower()
