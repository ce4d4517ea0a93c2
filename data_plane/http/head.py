"""From a head that llhttp has validated to what it means: the semantic rules that llhttp does not know.

The law: llhttp has checked the syntax (tokens, line ends, no folds, no NUL, lengths that are digits, no length beside a
coding); this file decides the rest, and a head that it returns has one reading. Every field that frames, concerns one hop, or
is set by the gateway is found by one regular expression and taken out; the lines between are kept as they came.

Fields are not taken from llhttp's callbacks, because each costs a Python call. Microseconds for validating a request head of
1, 3 and 12 fields and finding its special fields (CPython 3.11, httptools 0.9): callbacks alone 0.6, 1.0, 3.0, before any
look at a name; no callbacks and one pass of `_SPECIAL` 0.7, 1.1, 2.7, the lines to forward included.

A name spelt with underscores where a special field has hyphens is removed as well: CGI-style receivers read both as one.
Other names with underscores pass unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from data_plane.exchange.framing import CHUNKED_LINE, length_line
from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead
from data_plane.http.authority import AuthorityError, host_of, same_authority
from data_plane.http.limits import FIELDS, RESPONSE_FIELDS, TARGET_BYTES
from data_plane.http.path import PathError, normalise

_HOP_BY_HOP = (
    *(b"connection", b"content[-_]length", b"transfer[-_]encoding", b"te", b"trailer", b"upgrade", b"keep[-_]alive"),
    *(b"proxy(?:[-_](?:connection|authenticate|authorization))?", b"http2[-_]settings"),
)
_OF_GATEWAY = (b"host", b"expect", b"x[-_]forwarded[-_](?:for|proto|host|port)", b"x[-_]real[-_]ip")


def _field_lines(names: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Lines of these fields, as (name, value); the look at the first letter spares most lines the alternatives."""
    first = bytes(sorted({name[0] for name in names}))
    return re.compile(rb"\r\n(?=[%b])(%b):[ \t]*([^\r]*)" % (first + first.upper(), b"|".join(names)), re.IGNORECASE)


_SPECIAL = _field_lines(_HOP_BY_HOP + _OF_GATEWAY)
_SPECIAL_OF_RESPONSE = _field_lines(_HOP_BY_HOP)

# The head that most clients send: a path that is normal already (no escape, no empty or dot-led segment, no backslash or
# parameter), HTTP/1.1, and Host first.
_PLAIN = re.compile(
    rb"(?!CONNECT )([A-Z-]+) (?=/)((?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?)(?:\?[!-\"$-~]*)?"
    rb" HTTP/1\.1\r\nHost: ([!-~]+)(?=\r\n)"
)
_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])(?=\r\n)")
_ORIGIN = re.compile(rb"(/[!-\"$->@-~]*)(\?[!-\"$-~]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[!-\"$->@-~]*)?(\?[!-\"$-~]*)?", re.IGNORECASE)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( [^\r\n]*)?(?=\r\n)")


# Looked up rather than converted: a status has three digits, and nothing that int() would forgive.
_STATUS_LINES = {b"HTTP/1.1 %d " % status: status for status in range(100, 1000)}
# 19 digits are more than any disk has bytes, and below the 2^64 where receivers wrap.
LENGTH_DIGITS = 19


# A head of this size has neither too many fields (of 4 bytes at least, line end included) nor too long a target.
SMALL_HEAD = FIELDS * 4


class HeadError(ValueError):
    """The head has no one meaning; `kind` is a row of exchange/replies.py."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def parse_request(head: bytes) -> RequestHead:
    """`head` is the raw head up to and with the last field's CR LF; raises HeadError."""
    plain = _PLAIN.match(head)
    if plain is None or (len(head) > SMALL_HEAD and (len(head) > TARGET_BYTES or head.count(b"\r\n") > FIELDS)):
        return _parse_in_full(head)
    method, path, authority = plain.groups()
    if _SPECIAL.search(head, plain.end()) is None:
        # Nothing is to be taken out: the head as it came is the open head.
        try:
            return RequestHead(method, path, authority, host_of(authority), 1, head)
        except AuthorityError as error:
            raise HeadError("bad_host") from error
    line = head[: plain.start(3) - len(b"\r\nHost: ")]
    return _assemble(method, line, path, b"", 1, _SPECIAL.split(head), len(line))


def _parse_in_full(head: bytes) -> RequestHead:
    line = _LINE.match(head)
    if line is None:
        raise HeadError("bad_request")
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in b"01":
        raise HeadError("version_unknown")
    if len(target) > TARGET_BYTES:
        raise HeadError("target_too_long")
    # The start line's CR LF is counted as well.
    if head.count(b"\r\n") - 1 > FIELDS:
        raise HeadError("head_too_large")
    if method == b"CONNECT":
        raise HeadError("method_refused")
    target, path, named = _target(method, target)
    start_line = b"%b %b HTTP/1.1" % (method, target)
    return _assemble(method, start_line, path, named, 1 if minor == b"1" else 0, _SPECIAL.split(head), line.end())


def _assemble(
    method: bytes, start_line: bytes, path: bytes, named: bytes, minor: int, parts: list[bytes], line_end: int
) -> RequestHead:
    """The request from the parts of its head (text, name, value, text, name, value ... text), its start line replaced."""
    special: dict[bytes, list[bytes]] = {}
    for index in range(1, len(parts), 3):
        special.setdefault(parts[index].lower(), []).append(parts[index + 1].rstrip(b" \t"))
    authority = _authority(special.pop(b"host", None), named, minor)
    host = _host(authority) if authority else b""
    parts[0] = parts[0][line_end:]
    fields = b"".join(parts[::3])
    keep_alive = minor == 1
    connection = special.pop(b"connection", None)
    if connection is not None:
        keep_alive, fields = _connection(connection, minor, fields)
    host_line = b"\r\nHost: " + authority if authority else b""
    request = RequestHead(method, path, authority, host, minor, b"".join((start_line, host_line, fields)))
    request.keep_alive = keep_alive
    if special:
        _apply_special(request, special)
    return request


def _target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes]:
    """(target in origin form or `*`, path, authority of an absolute form)."""
    named = b""
    form = _ORIGIN.fullmatch(target)
    if form is not None:
        path, query = form.groups()
    elif target == b"*" and method == b"OPTIONS":
        return b"*", b"*", b""
    else:
        form = _ABSOLUTE.fullmatch(target)
        if form is None or not form[1]:
            raise HeadError("bad_target")
        named, path, query = form.groups()
        if path is None and query is None and method == b"OPTIONS":
            return b"*", b"*", named
        path = path or b"/"
    try:
        path = normalise(path)
    except PathError as error:
        raise HeadError("bad_path") from error
    return path + (query or b""), path, named


def _host(authority: bytes) -> bytes:
    try:
        return host_of(authority)
    except AuthorityError as error:
        raise HeadError("bad_host") from error


def _authority(hosts: list[bytes] | None, named: bytes, minor: int) -> bytes:
    """The one authority of a request: exactly one Host (1.0 may have none), and an absolute target must agree with it."""
    if hosts is None:
        if minor == 0:
            return named
        raise HeadError("bad_host")
    if len(hosts) != 1:
        raise HeadError("bad_host")
    if named and (_host(named) != _host(hosts[0]) or not same_authority(named, hosts[0])):
        raise HeadError("bad_host")
    if not hosts[0]:
        raise HeadError("bad_host")
    return hosts[0]


def _apply_special(request: RequestHead, special: dict[bytes, list[bytes]]) -> None:
    codings = special.get(b"transfer-encoding")
    lengths = special.get(b"content-length")
    if codings is not None:
        if lengths is not None or request.minor_version == 0:
            raise HeadError("bad_framing")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise HeadError("coding_unknown")
        request.length = CHUNKED
        request.framing = CHUNKED_LINE
    elif lengths is not None:
        request.length = _content_length(lengths)
        request.framing = length_line(request.length)
    forwarded = special.get(b"x-forwarded-for")
    if forwarded is not None:
        request.forwarded_for = b", ".join(value for value in forwarded if value)
    if b"expect" in special and request.minor_version == 1:
        if [value.lower() for value in special[b"expect"]] != [b"100-continue"]:
            raise HeadError("expectation_failed")
        request.expects_continue = True


def _content_length(values: list[bytes]) -> int:
    # isdigit() because int() takes `+5` and `1_0`.
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > LENGTH_DIGITS:
        raise HeadError("bad_framing")
    return int(values[0])


def _connection(values: list[bytes], minor: int, fields: bytes) -> tuple[bool, bytes]:
    """(whether the connection persists, the fields without those that Connection names)."""
    if values == [b"keep-alive"]:
        return True, fields
    tokens = {token.strip(b" \t").lower() for value in values for token in value.split(b",")}
    keep_alive = b"close" not in tokens and (minor == 1 or b"keep-alive" in tokens)
    named = tokens - {b"close", b"keep-alive", b"upgrade", b"te", b""}
    if not named:
        return keep_alive, fields
    lines = fields.split(b"\r\n")
    return keep_alive, b"\r\n".join([line for line in lines if line.partition(b":")[0].lower() not in named])


def parse_response(head: bytes) -> ResponseHead:
    """`head` as for `parse_request`, of a final response or of one that precedes it (1xx); raises HeadError."""
    parts = _SPECIAL_OF_RESPONSE.split(head)
    minor = 1
    status = _STATUS_LINES.get(head[:13])
    if status is None:
        status, minor = _unusual_status_line(head, parts)
    if len(head) > RESPONSE_FIELDS * 4 and head.count(b"\r\n") - 1 > RESPONSE_FIELDS:
        raise HeadError("upstream_bad_response")
    response = ResponseHead(status, b"".join(parts[::3]), UNTIL_CLOSE, b"", minor == 1)
    for index in range(1, len(parts), 3):
        name = parts[index]
        value = parts[index + 1]
        # As most servers write them; `_RESPONSE_FIELDS` has the whole rules.
        if name == b"Content-Length" and response.length == UNTIL_CLOSE and value.isdigit() and len(value) <= LENGTH_DIGITS:
            response.length = int(value)
            response.framing = b"Content-Length: " + value + b"\r\n"
        elif value != b"keep-alive" or name != b"Connection" or minor == 0:
            _RESPONSE_FIELDS.get(name.lower(), _drop)(response, value.rstrip(b" \t"), minor)
    return response


def _unusual_status_line(head: bytes, parts: list[bytes]) -> tuple[int, int]:
    """An answer in HTTP/1.0 or without a reason: (status, minor version), and the line as it is to be sent."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise HeadError("upstream_bad_response")
    minor, status, reason = line.groups()
    parts[0] = b"HTTP/1.1 %b%b%b" % (status, reason or b" ", parts[0][line.end() :])
    return int(status), 1 if minor == b"1" else 0


def _response_length(response: ResponseHead, value: bytes, minor: int) -> None:
    if response.length != UNTIL_CLOSE or not value.isdigit() or len(value) > LENGTH_DIGITS:
        raise HeadError("upstream_bad_response")
    response.length = int(value)
    response.framing = b"Content-Length: " + value + b"\r\n"


def _response_coding(response: ResponseHead, value: bytes, minor: int) -> None:
    if response.length != UNTIL_CLOSE or minor != 1 or value.lower() != b"chunked":
        raise HeadError("upstream_bad_response")
    response.length = CHUNKED
    response.framing = CHUNKED_LINE


def _response_connection(response: ResponseHead, value: bytes, minor: int) -> None:
    keep_alive, response.open = _connection([value], minor, response.open)
    response.keep_alive = keep_alive if minor == 0 else response.keep_alive and keep_alive


def _drop(response: ResponseHead, value: bytes, minor: int) -> None:
    """A field of this hop that says nothing to this gateway."""


_RESPONSE_FIELDS: dict[bytes, Callable[[ResponseHead, bytes, int], None]] = {
    b"connection": _response_connection,
    b"content-length": _response_length,
    b"transfer-encoding": _response_coding,
}
