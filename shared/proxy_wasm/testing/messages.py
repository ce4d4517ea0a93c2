"""Requests and responses as a test writes and reads them, and their way into and out of a head's bytes.

The law: header fields are ordered pairs, found by name without regard to case. The length of a message is that of its body, so
its framing fields are made here and never shown. Text is UTF-8; bytes that are none of it survive (surrogateescape).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from shared.proxy_wasm.abi import Direction

Fields = Mapping[str, str] | Iterable[tuple[str, str]]

FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile("[\0-\x08\x0a-\x1f\x7f]")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


def as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class Headers:
    """Ordered header fields. `headers["name"]` is the first value; `in` and `get` ask likewise."""

    __slots__ = ("_pairs",)

    def __init__(self, fields: Fields = ()) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        self._pairs = tuple((name, value) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        for value in self.all(name):
            return value
        raise KeyError(name)

    def get(self, name: str, default: str | None = None) -> str | None:
        return next(iter(self.all(name)), default)

    def all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for known, value in self._pairs if known.lower() == wanted]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.all(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        """Names are compared without case; a list of pairs or a mapping will do."""
        if isinstance(other, Mapping | list | tuple):
            other = Headers(other)
        if not isinstance(other, Headers):
            return NotImplemented
        return _lowered(self) == _lowered(other)

    def __hash__(self) -> int:
        return hash(tuple(_lowered(self)))

    def __repr__(self) -> str:
        return f"Headers({list(self._pairs)!r})"


def _lowered(headers: Headers) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers]


@dataclass(slots=True)
class Request:
    """A request as the plugin let it go on to the upstream. `complete` when its body has ended."""

    method: str
    path: str
    authority: str
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=Headers)
    complete: bool = False


@dataclass(slots=True, init=False)
class Response:
    """A response: of the upstream, of a callout, or as the client got it. `chunks` are the pieces in which a body arrives."""

    status: int
    headers: Headers
    body: bytes
    chunks: tuple[bytes, ...]
    trailers: Headers
    complete: bool

    def __init__(
        self,
        status: int = 200,
        headers: Fields = (),
        body: str | bytes = b"",
        chunks: Iterable[bytes] = (),
        trailers: Fields = (),
        complete: bool = True,
    ) -> None:
        self.status = status
        self.headers = Headers(headers)
        self.body = as_bytes(body)
        self.chunks = tuple(chunks)
        self.trailers = Headers(trailers)
        self.complete = complete
        if self.chunks:
            self.body = b"".join(self.chunks)

    @property
    def text(self) -> str:
        return as_text(self.body)


def pieces_of(body: bytes, chunks: Iterable[bytes]) -> tuple[bytes, ...]:
    """Raises ValueError when there are both."""
    listed = tuple(chunks)
    if body and listed:
        raise ValueError("a message has a body or chunks, not both")
    return listed or ((body,) if body else ())


def framing_line(direction: Direction, pieces: tuple[bytes, ...], trailers: bytes) -> bytes:
    """As it comes over a wire: a request without a body has none, a response then has a length of 0."""
    if trailers or len(pieces) > 1:
        return b"transfer-encoding: chunked\r\n"
    if not pieces and direction is Direction.REQUEST:
        return b""
    return b"content-length: %d\r\n" % sum(map(len, pieces))


def request_head(method: str, path: str, authority: str, headers: Fields) -> bytes:
    """An open head. Raises ValueError when it cannot be one."""
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"not a method: {method!r}")
    if not path.startswith(("/", "*")) or re.search(r"[\0-\x20\x7f]", path):
        raise ValueError(f"a path begins with / and has no blanks, got {path!r}")
    lines = [f"{method} {path} HTTP/1.1\r\n", f"host: {authority}\r\n", *_lines(headers, without="host")]
    return as_bytes("".join(lines))


def response_head(status: int, headers: Fields) -> bytes:
    if not 200 <= status <= 599:
        raise ValueError(f"the status of a final response is 200 to 599, got {status}")
    return as_bytes("".join([f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n", *_lines(headers)]))


def field_lines(fields: Fields) -> bytes:
    """Trailers. Raises ValueError when they cannot be ones."""
    return as_bytes("".join(_lines(fields)))


def read_fields(lines: bytes) -> Headers:
    return Headers(_read(b"\r\n" + lines)[1] if lines else ())


def _lines(headers: Fields, without: str = "") -> Iterator[str]:
    for name, value in Headers(headers):
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"not a header name: {name!r}")
        if _CONTROL.search(value):
            raise ValueError(f"a control character in the value of {name}: {value!r}")
        if name.lower() not in FRAMING and name.lower() != without:
            yield f"{name}: {value.strip()}\r\n"


def read_request(head: bytes) -> Request:
    """From an open head as the core put it out."""
    line, headers = _read(head)
    method, path, _ = line.split(" ", 2)
    authority = next((value for name, value in headers if name.lower() == "host"), "")
    return Request(method, path, authority, Headers([pair for pair in headers if pair[0].lower() != "host"]))


def read_response(head: bytes) -> Response:
    line, headers = _read(head)
    return Response(int(line[9:12]), Headers(headers), complete=False)


def _read(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    first, *rest = as_text(head).removesuffix("\r\n").split("\r\n")
    parted = [line.partition(":") for line in rest]
    return first, [(name, value.strip(" \t")) for name, _, value in parted]
