"""What loggers say of a request: the entry of APISIX, or the operator's own format.

The law: a format is read once, and a variable that nothing sets is refused when it is written. Variables are those of `vars`,
and those below, which are known when all is over. An entry is JSON, whatever bytes a client has sent.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from pydantic_core import PydanticSerializationError, to_json

from shared.expression.variables import find_reader
from shared.plugin.head import text
from shared.plugin.request import Request, Response
from shared.version import version_here

# nginx's, for a client that left before there was a response.
CLIENT_GONE = 499
_DEEPEST = 5
_SENT = "sent_http_"

Field = Callable[[Request, Response | None], Any]
Format = Callable[[Request, Response | None], dict[str, Any]]


def compile_format(source: Mapping[str, Any]) -> Format:
    """Raises ValueError. Beside what it names an entry has its route and its service, as in APISIX."""
    fields = _compiled(source, 1)

    def entry(request: Request, response: Response | None) -> dict[str, Any]:
        return {**fields(request, response), **_where(request)}

    return entry


def full_entry(request: Request, response: Response | None) -> dict[str, Any]:
    """As in APISIX. Times in milliseconds; sizes are those of bodies."""
    exchange = request.exchange
    assert exchange is not None
    target = request.asked_target
    host, port = exchange.local_address
    latency = (exchange.duration_ns or 0) / 1e6
    entry: dict[str, Any] = {
        "request": {
            "url": f"{request.scheme}://{request.host or host}:{port}{target}",
            "uri": target,
            "method": request.method,
            "headers": _headers(request),
            "querystring": _gathered(parse_qsl(request.query or "", keep_blank_values=True)) if "?" in target else {},
            "size": exchange.request_bytes,
        },
        "response": {
            "status": _status(request, response),
            "headers": {} if response is None else _headers(response),
            "size": exchange.response_bytes,
        },
        "server": _SERVER,
        "upstream": _upstream(request, response),
        "client_ip": request.client_ip,
        "start_time": exchange.start_time_ns / 1e6,
        "latency": latency,
        **_where(request),
    }
    if request.consumer is not None:
        entry["consumer"] = {"username": request.consumer.username}
    return entry


def encoded(entry: Mapping[str, Any]) -> bytes:
    try:
        return to_json(entry)
    except PydanticSerializationError:
        # Bytes that are no UTF-8 stand in texts as surrogates.
        shown = json.dumps(entry, ensure_ascii=False, separators=(",", ":"), default=str)
        return shown.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


_SERVER = {"hostname": platform.node(), "version": version_here()}


def _headers(head: Request | Response) -> dict[str, Any]:
    """Decoded as a whole: half of the time that field by field takes."""
    fields: dict[str, Any] = {}
    for line in text(head.raw).split("\r\n")[1:-1]:
        name, _, value = line.partition(":")
        _gather(fields, name.lower(), value.strip(" \t"))
    return fields


def _gathered(pairs: Any) -> dict[str, Any]:  # noqa: ANN401 - pairs of texts
    """The values of a name that comes more than once are an array."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        _gather(fields, name, value)
    return fields


def _gather(fields: dict[str, Any], name: str, value: str) -> None:
    known = fields.get(name)
    if known is None:
        fields[name] = value
    elif isinstance(known, list):
        known.append(value)
    else:
        fields[name] = [known, value]


def _where(request: Request) -> dict[str, str]:
    route = request.route
    return {} if route is None else {"route_id": route.id, "service_id": route.service_id or ""}


# Variables that are known when all is over.


def _status(request: Request, response: Response | None) -> int:
    return CLIENT_GONE if response is None else response.status


def _upstream(request: Request, response: Response | None) -> str:
    address = request.exchange.upstream_address if request.exchange is not None else None
    if address is None:
        return ""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _seconds(request: Request, response: Response | None) -> float:
    assert request.exchange is not None
    return round((request.exchange.duration_ns or 0) / 1e9, 3)


def _ended(request: Request) -> datetime:
    assert request.exchange is not None
    nanoseconds = request.exchange.start_time_ns + (request.exchange.duration_ns or 0)
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _sizes(name: str) -> Field:
    return lambda request, response: getattr(request.exchange, name)


def _line(request: Request, response: Response | None) -> str:
    protocol = request.variables.protocol
    return f"{request.method} {request.asked_target} {protocol}"


_AT_THE_END: dict[str, Field] = {
    "status": _status,
    "upstream_addr": _upstream,
    "request": _line,
    "request_time": _seconds,
    "msec": lambda request, response: round(_ended(request).timestamp(), 3),
    "time_iso8601": lambda request, response: _ended(request).isoformat(timespec="seconds"),
    "time_local": lambda request, response: _ended(request).strftime("%d/%b/%Y:%H:%M:%S +0000"),
    "bytes_sent": _sizes("response_bytes"),
    "body_bytes_sent": _sizes("response_bytes"),
    "request_length": _sizes("request_bytes"),
    "connection": _sizes("connection_id"),
    "request_body": lambda request, response: text(request.kept_body),
    "hostname": lambda request, response: _SERVER["hostname"],
    "pid": lambda request, response: os.getpid(),
}


def _compiled(source: Mapping[str, Any], depth: int) -> Format:
    if depth > _DEEPEST:
        raise ValueError(f"a format may be {_DEEPEST} objects deep")
    fields = {name: _field(value, depth) for name, value in source.items()}
    return lambda request, response: {name: field(request, response) for name, field in fields.items()}


def _field(value: object, depth: int) -> Field:
    if isinstance(value, Mapping):
        return _compiled(value, depth + 1)
    if not isinstance(value, str):
        raise ValueError(f"expected a text or an object in a format, got {value!r:.80}")
    return _variable(value[1:]) if value.startswith("$") and len(value) > 1 else lambda request, response: value


def _variable(name: str) -> Field:
    if name in _AT_THE_END:
        return _AT_THE_END[name]
    if name.startswith(_SENT) and len(name) > len(_SENT):
        field = name[len(_SENT) :].replace("_", "-")
        return lambda request, response: None if response is None else response.header(field)
    if name.startswith("post_arg"):
        raise ValueError(f"${name} needs the request's body, of which only the beginning is kept ($request_body)")
    read = find_reader(name, True)

    def shown(request: Request, response: Response | None) -> object:
        value = read(request.variables)
        return text(value) if isinstance(value, bytes) else value

    return shown
