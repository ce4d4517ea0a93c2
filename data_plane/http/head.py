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
from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE, RequestFields, RequestHead, ResponseHead
from data_plane.exchange.replies import REASONS
from data_plane.exchange.upstream_status import show_all, upstream_status_line, without_upstream_status
from data_plane.http.authority import AuthorityError, host_of, same_authority
from data_plane.http.forwarded import NOTHING, Received
from data_plane.http.limits import FIELDS, RESPONSE_FIELDS, TARGET_BYTES
from data_plane.http.path import PathError, normalise

_HOP_BY_HOP = (
    *(b"connection", b"content[-_]length", b"transfer[-_]encoding", b"te", b"trailer", b"upgrade", b"keep[-_]alive"),
    *(b"proxy(?:[-_](?:connection|authenticate|authorization))?", b"http2[-_]settings"),
)
# The trace is an operator's secret (tracing.py): no upstream gets it, also where nobody asks for it here. Who the consumer is
# says an auth plugin (shared/plugin/consumer.py), and never a client, also where no such plugin runs.
_OF_CONSUMER = b"consumer[-_](?:username|custom[-_]id)|credential[-_]identifier"
_OF_GATEWAY = (
    *(b"host", b"expect", b"x[-_](?:forwarded[-_](?:for|proto|host|port)|real[-_]ip|waspgate[-_]trace|%b)" % _OF_CONSUMER),
)


def _field_lines(names: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Lines of these fields, as (name, value); the look at the first letter spares most lines the alternatives."""
    first = bytes(sorted({name[0] for name in names}))
    return re.compile(rb"\r\n(?=[%b])(%b):[ \t]*([^\r]*)" % (first + first.upper(), b"|".join(names)), re.IGNORECASE)


_SPECIAL = _field_lines(_HOP_BY_HOP + _OF_GATEWAY)
_SPECIAL_OF_RESPONSE = _field_lines(_HOP_BY_HOP)

# The start line that most clients send: HTTP/1.1, and a path that is normal already (no escape, no empty or dot-led segment, no
# backslash or parameter).
_PLAIN = re.compile(
    rb"(?!CONNECT |OPTIONS |TRACE )([A-Z-]+) (?=/)"
    rb"((?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?)(?:\?[!-\"$-~]*)?"
    rb" HTTP/1\.1(?=\r\n)"
)
_HOST_LINE = re.compile(rb"\r\nHost: ([!-~]+)(?=\r\n)")
_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])(?=\r\n)")
_ORIGIN = re.compile(rb"(/[!-\"$->@-~]*)(\?[!-\"$-~]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[!-\"$->@-~]*)?(\?[!-\"$-~]*)?", re.IGNORECASE)
_MAX_FORWARDS = re.compile(rb"\r\nMax-Forwards:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( [\t -~\x80-\xff]*)?(?=\r\n)")


# What most responses begin with, in 17 bytes: their reason needs no look, nor their status a field of its own.
_STATUS_LINES = {b"HTTP/1.1 200 OK\r\n": 200}
# Other lines that can be sent on as they are.
_PLAIN_LINES = {b"HTTP/1.1 %d %b" % (status, REASONS[status].encode()): status for status in REASONS if status < 500}
# 19 digits are more than any disk has bytes, and below the 2^64 where receivers wrap.
LENGTH_DIGITS = 19


# A gateway is no tunnel; TRACE would show a client what others may not read (nginx refuses both as well).
REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})

# What a gateway adds to a request with this authority and these fields of its own names.
ForwardedLines = Callable[[bytes, Received], bytes]

# Stands for the field lines of no request.
NO_FIELDS = RequestFields(b"", 1, b"", b"", b"")


class HeadError(ValueError):
    """The head has no one meaning; `kind` is a row of exchange/replies.py."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _nothing_forwarded(authority: bytes, received: Received) -> bytes:
    return b""


def parse_request(head: bytes, known: RequestFields = NO_FIELDS, forwarded: ForwardedLines = _nothing_forwarded) -> RequestHead:
    """`head` is the raw head up to and with the last field's CR LF; raises HeadError.

    `known` are the fields of the request before it on its connection, which most clients repeat word for word.
    """
    plain = _PLAIN.match(head)
    if plain is None or plain.end() > TARGET_BYTES:
        return _parse_in_full(head, forwarded)
    method, path = plain.groups()
    end = plain.end()
    raw = head[end:]
    if raw != known.raw:
        known = _plain_fields(raw, forwarded)
    return RequestHead(method, path, head[:end] + known.lines, known)


def _plain_fields(raw: bytes, forwarded: ForwardedLines) -> RequestFields:
    """Those of a request whose start line is plain."""
    first = _SPECIAL.search(raw)
    host = first and _HOST_LINE.match(raw, first.start())
    if host is None or _SPECIAL.search(raw, host.end()) is not None or raw.count(b"\r\n") - 1 > FIELDS:
        return _fields(raw, b"", 1, forwarded)
    # Nothing is to be taken out.
    authority = host[1]
    return RequestFields(raw, 1, authority, _host(authority), raw + forwarded(authority, NOTHING))


def _parse_in_full(head: bytes, forwarded: ForwardedLines) -> RequestHead:
    line = _LINE.match(head)
    if line is None:
        raise HeadError("bad_request")
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in b"01":
        raise HeadError("version_unknown")
    if len(target) > TARGET_BYTES:
        raise HeadError("target_too_long")
    if method in REFUSED_METHODS:
        raise HeadError("method_refused")
    target, path, named = _target(method, target)
    fields = _fields(head[line.end() :], named, 1 if minor == b"1" else 0, forwarded)
    if method == b"OPTIONS":
        _count_forwards(fields)
    return RequestHead(method, path, b"%b %b HTTP/1.1%b" % (method, target, fields.lines), fields)


def _fields(raw: bytes, named: bytes, minor: int, forwarded: ForwardedLines) -> RequestFields:
    """`named` is the authority of an absolute target."""
    # The start line's CR LF is counted as well.
    if raw.count(b"\r\n") - 1 > FIELDS:
        raise HeadError("head_too_large")
    # Text, name, value, text, name, value ... text.
    parts = _SPECIAL.split(raw)
    special: dict[bytes, list[bytes]] = {}
    for index in range(1, len(parts), 3):
        special.setdefault(parts[index].lower(), []).append(parts[index + 1].rstrip(b" \t"))
    authority = _authority(special.pop(b"host", None), named, minor)
    lines = b"".join(parts[::3])
    keep_alive = minor == 1
    connection = special.pop(b"connection", None)
    if connection is not None:
        keep_alive, lines = _connection(connection, minor, lines)
    host_line = b"\r\nHost: " + authority if authority else b""
    lines = b"".join((host_line, lines, forwarded(authority, special)))
    fields = RequestFields(b"" if named or minor == 0 else raw, minor, authority, _host(authority) if authority else b"", lines)
    fields.keep_alive = keep_alive
    if special:
        _apply_special(fields, special)
    return fields


def _count_forwards(fields: RequestFields) -> None:
    """RFC 9110, section 7.6.2: one less for whoever comes next, and at 0 the request ends here."""
    found = _MAX_FORWARDS.search(fields.lines)
    if found is None:
        return
    if int(found[1]) == 0:
        raise HeadError("no_more_forwards")
    start, end = found.span(1)
    fields.lines = b"%b%d%b" % (fields.lines[:start], int(found[1]) - 1, fields.lines[end:])
    # Requests of other methods with the same lines keep theirs.
    fields.raw = b""


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


def _apply_special(fields: RequestFields, special: dict[bytes, list[bytes]]) -> None:
    codings = special.get(b"transfer-encoding")
    lengths = special.get(b"content-length")
    if codings is not None:
        if lengths is not None or fields.minor_version == 0:
            raise HeadError("bad_framing")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise HeadError("coding_unknown")
        fields.length = CHUNKED
        fields.framing = CHUNKED_LINE
    elif lengths is not None:
        fields.length = _content_length(lengths)
        fields.framing = length_line(fields.length)
    if b"expect" in special and fields.minor_version == 1:
        if [value.lower() for value in special[b"expect"]] != [b"100-continue"]:
            raise HeadError("expectation_failed")
        fields.expects_continue = True
    trace = special.get(b"x-waspgate-trace")
    if trace is not None:
        fields.trace = trace[0]


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
    if len(head) > RESPONSE_FIELDS * 4 and head.count(b"\r\n") - 1 > RESPONSE_FIELDS:
        raise HeadError("upstream_bad_response")
    parts = _SPECIAL_OF_RESPONSE.split(head)
    minor = 1
    status = _STATUS_LINES.get(head[:17])
    if status is None:
        status, minor = _unusual_status_line(head, parts)
    elif len(parts) == 4 or (len(parts) == 7 and parts[5] == b"keep-alive" and parts[4] == b"Connection"):
        # As most servers write them.
        value = parts[2]
        if parts[1] == b"Content-Length" and value.isdigit() and len(value) <= LENGTH_DIGITS:
            return ResponseHead(status, b"".join(parts[::3]), int(value), b"Content-Length: %b\r\n" % value, True)
    response = ResponseHead(status, b"".join(parts[::3]), UNTIL_CLOSE, b"", minor == 1)
    for index in range(1, len(parts), 3):
        name = parts[index]
        _RESPONSE_FIELDS.get(name.lower(), _drop)(response, parts[index + 1].rstrip(b" \t"), minor)
    return response


def _unusual_status_line(head: bytes, parts: list[bytes]) -> tuple[int, int]:
    """Any but that of most responses: (status, minor version), and the line as it is to be sent."""
    plain = _PLAIN_LINES.get(head[: head.find(b"\r\n")])
    if plain is not None:
        return plain, 1
    line = _STATUS_LINE.match(head)
    if line is None:
        raise HeadError("upstream_bad_response")
    minor, digits, reason = line.groups()
    status = int(digits)
    said = upstream_status_line(status)
    if said:
        parts[::3] = [without_upstream_status(part) for part in parts[::3]]
    parts[0] = b"HTTP/1.1 %b%b%b%b" % (digits, reason or b" ", said, parts[0][line.end() :])
    return status, 1 if minor == b"1" else 0


def show_upstream_status_always() -> None:
    """For this process, before it serves."""
    show_all()
    _STATUS_LINES.clear()
    _PLAIN_LINES.clear()


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
