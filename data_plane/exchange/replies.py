"""The single table from what went wrong to what the client is told.

The law: every reply that the gateway makes by itself is a row here; its text is a constant, so nothing internal leaks. A kind
is the name by which every other module reports the failure.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

from data_plane.exchange.upstream_status import upstream_status_line
from data_plane.plugins.interface import LocalReply


class Reply(NamedTuple):
    status: int
    head: bytes
    body: bytes


REASONS = {status.value: status.phrase for status in HTTPStatus}

# Fields that only the exchange may write.
_FRAMING_FIELDS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade", b"trailer"})

_ROWS: dict[str, tuple[int, str]] = {
    # What the client sent.
    "bad_request": (400, "malformed request"),
    "bad_host": (400, "missing or invalid Host"),
    "bad_target": (400, "invalid request target"),
    "bad_path": (400, "ambiguous or invalid path"),
    "bad_framing": (400, "invalid message framing"),
    "plain_http": (400, "this port speaks HTTPS"),
    "client_certificate_needed": (400, "a valid client certificate is needed"),
    "misdirected": (421, "this host is served over another connection"),
    "method_refused": (405, "method not allowed"),
    "no_more_forwards": (200, "the request may be forwarded no further"),
    "request_timeout": (408, "request timed out"),
    "body_too_large": (413, "request body too large"),
    "target_too_long": (414, "request target too long"),
    "expectation_failed": (417, "unknown expectation"),
    "head_too_large": (431, "request header fields too large"),
    "coding_unknown": (501, "unknown transfer coding"),
    "version_unknown": (505, "HTTP version not supported"),
    # What the configuration says.
    "no_snapshot": (503, "no configuration has been loaded yet"),
    "route_not_found": (404, "404 Route Not Found"),
    "service_missing": (404, "service not found"),
    "plugin_config_missing": (503, "plugin config not found"),
    "plugin_missing": (503, "plugin not available"),
    "upstream_missing": (503, "missing upstream configuration"),
    "upstream_not_found": (502, "upstream not found"),
    "upstream_not_http": (503, "the upstream does not speak HTTP"),
    "no_nodes": (503, "no upstream node available"),
    # What the upstream did.
    "upstream_connect_failed": (502, "cannot connect to upstream"),
    "upstream_connect_timeout": (504, "upstream connect timed out"),
    "upstream_closed": (502, "upstream closed the connection"),
    "upstream_bad_response": (502, "invalid response from upstream"),
    "upstream_send_timeout": (504, "upstream send timed out"),
    "upstream_read_timeout": (504, "upstream read timed out"),
    "upstream_retry_timeout": (502, "no time left to try another upstream node"),
    # What happened in here.
    "overloaded": (503, "too many connections"),
    "memory_short": (503, "short of memory"),
    "plugin_failed": (503, "plugin failed"),
    "plugin_held": (504, "a plugin held the request too long"),
    "internal": (500, "internal error"),
}

# The rows that stand for a status that no upstream has given.
OF_UPSTREAMS = frozenset(
    {
        *("upstream_connect_failed", "upstream_connect_timeout", "upstream_closed", "upstream_bad_response"),
        *("upstream_send_timeout", "upstream_read_timeout", "upstream_retry_timeout"),
    }
)


def open_reply(reply: LocalReply) -> bytes:
    """The open head of a plugin's reply."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (reply.status, REASONS.get(reply.status, "").encode())]
    lines += [b"%b: %b\r\n" % field for field in reply.fields if field[0].lower() not in _FRAMING_FIELDS]
    return b"".join(lines)


def _reply(kind: str, status: int, message: str) -> Reply:
    body = json.dumps({"error_msg": message}, separators=(",", ":")).encode() + b"\n"
    start = f"HTTP/1.1 {status} {REASONS[status]}\r\n".encode()
    allow = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" if status in (200, 405) else b""
    if kind in OF_UPSTREAMS:
        start = start[:-2] + upstream_status_line(status) + b"\r\n"
    return Reply(status, start + allow + b"Content-Type: application/json\r\nServer: waspgate\r\n", body)


REPLIES: dict[str, Reply] = {kind: _reply(kind, status, message) for kind, (status, message) in _ROWS.items()}


def reply_for(kind: str) -> Reply:
    """The row of a kind; a route's problem that this table does not know is answered as an internal error."""
    return REPLIES.get(kind) or REPLIES["internal"]
