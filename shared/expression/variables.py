"""The variables of the expression language: one table from names to how a request tells them.

The law: a name that is not here is refused when the configuration is written, because a rule about a variable that nothing sets
would silently never hold. Names are nginx's and APISIX's; where values differ from theirs, docs/http.md says it.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from shared.expression.operators import Value
from shared.expression.posted import parse_path
from shared.expression.request import RequestVariables

Reader = Callable[[RequestVariables], Value]


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _scheme(request: RequestVariables) -> bytes:
    """The gateway has written X-Forwarded-Proto itself, or believed the proxy that did."""
    return b"https" if request.field(b"x_forwarded_proto") == b"https" else b"http"


def _content_length(request: RequestVariables) -> Value:
    return b"%d" % request.length if request.length > 0 else request.field(b"content_length")


# Known before there is a route.
_OF_REQUEST: dict[str, Reader] = {
    "uri": lambda request: request.path,
    "request_uri": lambda request: request.target,
    "args": lambda request: request.query,
    "query_string": lambda request: request.query,
    "is_args": lambda request: b"?" if request.query else b"",
    "method": lambda request: request.method,
    "request_method": lambda request: request.method,
    "host": lambda request: request.host or None,
    "scheme": _scheme,
    "https": lambda request: b"on" if _scheme(request) == b"https" else b"",
    "remote_addr": lambda request: request.client_address[0].encode(),
    "remote_port": lambda request: b"%d" % request.client_address[1],
    "server_addr": lambda request: request.local_address[0].encode(),
    "server_port": lambda request: b"%d" % request.local_address[1],
    "server_protocol": lambda request: request.protocol.encode(),
    "content_length": _content_length,
    "http_content_length": _content_length,
    "content_type": lambda request: request.field(b"content_type"),
}

# Known to plugins, when a route has been found or a response is there.
_OF_ROUTE: dict[str, Reader] = {
    "route_id": lambda request: _text(request.route_id),
    "route_name": lambda request: _text(request.route_name),
    "service_id": lambda request: _text(request.service_id),
    "consumer_name": lambda request: _text(request.consumer_name),
    "consumer_group_id": lambda request: _text(request.consumer_group_id),
    "status": lambda request: request.status,
}


def _of_field(name: str) -> Reader:
    key = name.lower().replace("-", "_").encode()
    return lambda request: request.field(key)


def _of_argument(name: str) -> Reader:
    key = name.encode()
    return lambda request: request.argument(key)


def _of_cookie(name: str) -> Reader:
    key = name.encode()
    return lambda request: request.cookie(key)


def _of_form(name: str) -> Reader:
    key = name.encode()
    return lambda request: request.posted(key)


def _of_body(path: str) -> Reader:
    steps = parse_path("." + path)
    return lambda request: request.posted_at(steps)


def _of_path(name: str) -> Reader:
    key = name.encode()
    return lambda request: request.parameter(key)


# A prefix may begin with another one's: the first that fits counts.
_PREFIXES: dict[str, Callable[[str], Reader]] = {
    "http_": _of_field,
    "arg_": _of_argument,
    "cookie_": _of_cookie,
    "post_arg_": _of_form,
    "post_arg.": _of_body,
    "uri_param_": _of_path,
}


def find_reader(name: str, routed: bool) -> Reader:
    """How a request tells the variable; `routed` when it has a route already. Raises ValueError for an unknown one."""
    reader = _OF_REQUEST.get(name)
    if reader is not None:
        return reader
    if name in _OF_ROUTE:
        if not routed:
            raise ValueError(f'variable "{name}" is not known before a route is found')
        return _OF_ROUTE[name]
    for prefix, make in _PREFIXES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return make(name[len(prefix) :])
    near = get_close_matches(name, [*_OF_REQUEST, *_OF_ROUTE], n=1)
    hint = f', did you mean "{near[0]}"?' if near else f"; there are {', '.join(sorted(_OF_REQUEST))}, and names after"
    hint += "" if near else f" {', '.join(_PREFIXES)}"
    raise ValueError(f'unknown variable "{name[:64]}"{hint}')
