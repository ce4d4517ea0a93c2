"""The heads of HTTP/2 as those of HTTP/1, which the rest of the gateway reads and writes, and back.

The law: a field block becomes a head only if it has one reading by RFC 9113 section 8: its pseudo-fields first and once each,
names in lower case, no field of a connection, nothing that could end a line; and llhttp, which sees all heads that the gateway
reads, must take it. What leaves is in lower case and has no field that
concerns one hop, whatever was in the head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hpack import NeverIndexedHeaderTuple
from httptools import HttpParserError, HttpRequestParser

from data_plane.exchange.framing import CHUNKED_LINE, length_line
from data_plane.exchange.messages import CHUNKED, ResponseHead
from data_plane.exchange.replies import REASONS
from data_plane.exchange.upstream_status import upstream_status_line
from data_plane.http.authority import AuthorityError, same_authority
from data_plane.http.head import LENGTH_DIGITS, HeadError
from data_plane.http.limits import FIELDS, REQUEST_HEAD_BYTES, RESPONSE_FIELDS

Field = tuple[bytes, bytes]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
# Neither begins nor ends with a blank (RFC 9113 8.2.1), and has no control character.
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_METHOD = re.compile(rb"[A-Z-]+")
_PATH = re.compile(rb"(?:/[!-~]*|\*)")
_STATUS = re.compile(rb"[1-9][0-9]{2}")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_SCHEMES = frozenset({b"http", b"https"})
# RFC 9113 8.2.2: a message that has one of them is malformed.
_OF_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_NOT_IN_TRAILERS = _OF_CONNECTION | {b"content-length", b"host", b"te", b"trailer", b"content-encoding", b"content-type"}
_NOTHING: frozenset[bytes] = frozenset()
_SPECIAL = frozenset({b"host", b"te", b"cookie", b"content-length"})
# Browsers send each cookie as a field of its own (RFC 9113 8.2.3).
_MOST_CRUMBS = 100
# Never in a shared table, which could be guessed at (RFC 7541 7.1.3).
_SECRET = frozenset({b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"})


class MalformedError(ValueError):
    """The message is none (RFC 9113 8.1.1): its stream is reset, whatever it may have meant."""


class _Silent:
    """llhttp only says whether the head is one."""


def request_head(fields: Iterable[Field], eos: bool) -> bytes:
    """The head of HTTP/1 that says the same, up to and with the last field's CR LF; raises MalformedError, and HeadError
    for what HTTP/1 would refuse as well.

    A body without a length is framed as chunks there; `eos` says that none follows.
    """
    pseudo: dict[bytes, bytes] = {}
    special: dict[bytes, list[bytes]] = {}
    lines: list[bytes] = []
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + 4
        if name[:1] == b":":
            if lines or special or name in pseudo or name not in _PSEUDO or not value:
                raise MalformedError
            pseudo[name] = value
        elif _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None or name in _OF_CONNECTION:
            raise MalformedError
        elif name in _SPECIAL:
            special.setdefault(name, []).append(value)
        else:
            lines.append(b"%b: %b\r\n" % (name, value))
    if size > REQUEST_HEAD_BYTES or len(lines) > FIELDS:
        raise HeadError("head_too_large")
    head = _start(pseudo, special.pop(b"host", [])) + b"".join(lines)
    if special:
        head += _special_lines(special)
    if not eos and b"content-length" not in special:
        head += b"transfer-encoding: chunked\r\n"
    try:
        HttpRequestParser(_Silent()).feed_data(head + b"\r\n")
    except HttpParserError as error:
        raise HeadError("bad_request") from error
    return head


def _special_lines(special: dict[bytes, list[bytes]]) -> bytes:
    """Those that are joined, repeated or left out."""
    if any(value.lower() != b"trailers" for value in special.get(b"te", ())):
        raise MalformedError
    crumbs = special.get(b"cookie", ())
    if len(crumbs) > _MOST_CRUMBS:
        raise HeadError("head_too_large")
    lines = [b"content-length: %b\r\n" % value for value in special.get(b"content-length", ())]
    if crumbs:
        lines.append(b"cookie: %b\r\n" % b"; ".join(crumbs))
    return b"".join(lines)


def _start(pseudo: dict[bytes, bytes], hosts: list[bytes]) -> bytes:
    """The request line, and the Host line that the authority makes."""
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if method == b"CONNECT":
        raise HeadError("method_refused")
    if not path or _METHOD.fullmatch(method) is None or pseudo.get(b":scheme") not in _SCHEMES:
        raise MalformedError
    if _PATH.fullmatch(path) is None or (path == b"*") is not (path == b"*" and method == b"OPTIONS"):
        raise HeadError("bad_target")
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, path, _authority(pseudo.get(b":authority"), hosts))


def _authority(named: bytes | None, hosts: list[bytes]) -> bytes:
    """RFC 9113 8.3.1: what both say must be the same."""
    if len(hosts) > 1 or not (named or hosts):
        raise HeadError("bad_host")
    authority = named or hosts[0]
    # Here, because it is written into a line of its own.
    if _VALUE.fullmatch(authority) is None:
        raise HeadError("bad_host")
    if named and hosts and named != hosts[0]:
        try:
            same = same_authority(named, hosts[0])
        except AuthorityError as error:
            raise HeadError("bad_host") from error
        if not same:
            raise HeadError("bad_host")
    return authority


def trailer_lines(fields: Iterable[Field]) -> bytes:
    """The field lines of trailers, without those that no trailer may be (RFC 9110 6.5.1); raises MalformedError, HeadError."""
    lines = []
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise MalformedError
        if name not in _NOT_IN_TRAILERS:
            lines.append(b"%b: %b\r\n" % (name, value))
    if len(lines) > FIELDS:
        raise HeadError("head_too_large")
    return b"".join(lines)


def response_fields(head: bytes) -> list[Field]:
    """Of a response's head, with or without its empty line."""
    start, _, lines = head.partition(b"\r\n")
    return [(b":status", start[9:12]), *line_fields(lines, _OF_CONNECTION)]


def request_fields(head: bytes, scheme: bytes) -> tuple[list[Field], int]:
    """Of the head of a request that this gateway sends, without its empty line, and the length of its body, CHUNKED or 0."""
    start, _, lines = head.partition(b"\r\n")
    method, target, _ = start.split(b" ")
    fields: list[Field] = [(b":method", method), (b":scheme", scheme), (b":path", target)]
    length = 0
    rest: list[Field] = []
    for field in line_fields(lines, _NOTHING):
        name, value = field
        if name == b"host":
            fields.append((b":authority", value))
        elif name == b"transfer-encoding":
            length = CHUNKED
        elif name not in _OF_CONNECTION:
            if name == b"content-length":
                length = int(value)
            rest.append(field)
    return [*fields, *rest, (b"te", b"trailers")], length


def response_head(fields: Iterable[Field]) -> ResponseHead:
    """Of what an upstream answers; raises HeadError."""
    status = b""
    length = CHUNKED
    lines: list[bytes] = []
    for name, value in fields:
        if name == b":status" and not status and not lines and _STATUS.fullmatch(value) is not None:
            status = value
        elif _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None or name in _OF_CONNECTION:
            raise HeadError("upstream_bad_response")
        elif name != b"content-length":
            lines.append(b"%b: %b\r\n" % (name, value))
        elif length != CHUNKED or not value.isdigit() or len(value) > LENGTH_DIGITS:
            raise HeadError("upstream_bad_response")
        else:
            length = int(value)
    if not status or len(lines) > RESPONSE_FIELDS:
        raise HeadError("upstream_bad_response")
    number = int(status)
    said = upstream_status_line(number)
    start = b"HTTP/1.1 %b %b%b\r\n" % (status, REASONS.get(number, "").encode(), said)
    if said:
        lines = [line for line in lines if not line.startswith(b"x-apisix-upstream-status:")]
    framing = CHUNKED_LINE if length == CHUNKED else length_line(length)
    return ResponseHead(number, start + b"".join(lines), length, framing, True)


def trailer_fields(lines: bytes) -> list[Field]:
    return line_fields(lines, _NOT_IN_TRAILERS)


def line_fields(lines: bytes, without: frozenset[bytes]) -> list[Field]:
    fields: list[Field] = []
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name and name not in without:
            field = (name, value.strip(b" \t"))
            fields.append(NeverIndexedHeaderTuple(*field) if name in _SECRET else field)
    return fields
