"""From a head that llhttp has validated to what it means: the semantic rules that llhttp does not know.

The law: llhttp has checked the syntax (tokens, line ends, no folds, no NUL, lengths that are digits, no length beside a
coding); this file decides the rest, and a head that it returns has one reading. Every field that frames, concerns one hop, or
is set by the gateway is found by one regular expression and taken out; the lines between are kept as they came.

Fields are not taken from llhttp's callbacks, because each costs a Python call. Microseconds for validating a request head of
1, 3 and 12 fields and finding its special fields (CPython 3.11, httptools 0.9): callbacks alone 0.6, 1.0, 3.0, before any
look at a name; no callbacks and `_SPECIAL.split` 0.8, 1.1, 2.7, the lines to forward included.

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

# A target whose path is normal already: no escape, no empty or dot-led segment, no backslash or parameter.
_PLAIN_LINE = re.compile(
    rb"([A-Z-]+) ((?=/)((?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?)(?:\?[!-\"$-~]*)?)"
    rb" HTTP/1\.([01])(?=\r\n)"
)
_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])(?=\r\n)")
_ORIGIN = re.compile(rb"(/[!-\"$->@-~]*)(\?[!-\"$-~]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[!-\"$->@-~]*)?(\?[!-\"$-~]*)?", re.IGNORECASE)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( [^\r\n]*)?(?=\r\n)")


class HeadError(ValueError):
    """The head has no one meaning; `kind` is a row of exchange/replies.py."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def parse_request(head: bytes) -> RequestHead:
    """`head` is the raw head up to and with the last field's CR LF; raises HeadError."""
    line = _PLAIN_LINE.match(head)
    if line is not None:
        method, target, path, minor_digit = line.groups()
        minor = 1 if minor_digit == b"1" else 0
        named = b""
    else:
        line, method, target, path, named, minor = _unusual_line(head)
    if len(head) > FIELDS * 4:
        _check_sizes(head, target, FIELDS)
    parts = _SPECIAL.split(head)
    parts[0] = parts[0][line.end() :]
    if len(parts) == 4 and parts[1] == b"Host" and not named:
        authority = parts[2].rstrip(b" \t")
        return RequestHead(method, target, path, authority, _host(authority), minor, parts[0] + parts[3])
    special: dict[bytes, list[bytes]] = {}
    for name, value in zip(parts[1::3], parts[2::3], strict=True):
        special.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    authority = _authority(special, named, minor)
    host = _host(authority) if authority else b""
    request = RequestHead(method, target, path, authority, host, minor, b"".join(parts[::3]))
    _apply_special(request, special)
    return request


def _unusual_line(head: bytes) -> tuple[re.Match[bytes], bytes, bytes, bytes, bytes, int]:
    """Everything but a plain path: (match, method, target, path, authority named by the target, minor version)."""
    line = _LINE.match(head)
    if line is None:
        raise HeadError("bad_request")
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in b"01":
        raise HeadError("version_unknown")
    if len(target) > TARGET_BYTES:
        raise HeadError("target_too_long")
    if method == b"CONNECT":
        raise HeadError("method_refused")
    target, path, named = _target(method, target)
    return line, method, target, path, named, 1 if minor == b"1" else 0


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


def _check_sizes(head: bytes, target: bytes, fields: int) -> None:
    if len(target) > TARGET_BYTES:
        raise HeadError("target_too_long")
    # The start line's CR LF is counted as well.
    if head.count(b"\r\n") - 1 > fields:
        raise HeadError("head_too_large")


def _host(authority: bytes) -> bytes:
    try:
        return host_of(authority)
    except AuthorityError as error:
        raise HeadError("bad_host") from error


def _authority(special: dict[bytes, list[bytes]], named: bytes, minor: int) -> bytes:
    """The one authority of a request: exactly one Host (1.0 may have none), and an absolute target must agree with it."""
    hosts = special.get(b"host")
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
    if b"connection" in special:
        request.keep_alive, request.fields = _connection(special[b"connection"], request.minor_version, request.fields)
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
    # 19 digits are above any disk and below the 2^64 where receivers wrap; isdigit() because int() takes `+5` and `1_0`.
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > 19:
        raise HeadError("bad_framing")
    return int(values[0])


def _connection(values: list[bytes], minor: int, fields: bytes) -> tuple[bool, bytes]:
    """(whether the connection persists, the fields without those that Connection names)."""
    tokens = {token.strip(b" \t").lower() for value in values for token in value.split(b",")}
    keep_alive = b"close" not in tokens and (minor == 1 or b"keep-alive" in tokens)
    named = tokens - {b"close", b"keep-alive", b"upgrade", b"te", b""}
    if not named:
        return keep_alive, fields
    lines = fields.split(b"\r\n")
    return keep_alive, b"\r\n".join([line for line in lines if line.partition(b":")[0].lower() not in named])


def parse_response(head: bytes) -> ResponseHead:
    """`head` as for `parse_request`, of a status that ends an exchange or precedes its end (1xx); raises HeadError."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise HeadError("upstream_bad_response")
    minor_digit, status, reason = line.groups()
    if len(head) > RESPONSE_FIELDS * 4 and head.count(b"\r\n") - 1 > RESPONSE_FIELDS:
        raise HeadError("upstream_bad_response")
    parts = _SPECIAL_OF_RESPONSE.split(head)
    if minor_digit != b"1" or reason is None:
        parts[0] = b"HTTP/1.1 %b%b%b" % (status, reason or b" ", parts[0][line.end() :])
    response = ResponseHead(int(status), b"".join(parts[::3]), UNTIL_CLOSE, minor_digit == b"1")
    for index in range(1, len(parts), 3):
        name = parts[index].lower()
        apply = _RESPONSE_FIELDS.get(name)
        if apply is not None:
            apply(response, parts[index + 1].rstrip(b" \t"), minor_digit)
    return response


def _response_length(response: ResponseHead, value: bytes, minor: bytes) -> None:
    if response.length != UNTIL_CLOSE or not value.isdigit() or len(value) > 19:
        raise HeadError("upstream_bad_response")
    response.length = int(value)


def _response_coding(response: ResponseHead, value: bytes, minor: bytes) -> None:
    if response.length != UNTIL_CLOSE or minor != b"1" or value.lower() != b"chunked":
        raise HeadError("upstream_bad_response")
    response.length = CHUNKED


def _response_connection(response: ResponseHead, value: bytes, minor: bytes) -> None:
    if value != b"keep-alive" or minor != b"1":
        keep_alive, response.open = _connection([value], 1 if minor == b"1" else 0, response.open)
        response.keep_alive = keep_alive if minor == b"0" else response.keep_alive and keep_alive


_RESPONSE_FIELDS: dict[bytes, Callable[[ResponseHead, bytes, bytes], None]] = {
    b"connection": _response_connection,
    b"content-length": _response_length,
    b"transfer-encoding": _response_coding,
}
