"""What `chash` hashes of a request: `hash_on` and `key`, compiled to one function.

The law: what is read is the head that goes to the upstream, as plugins have left it, and the client's connection. A value that
is missing or empty is replaced by the client's address, so that such requests spread over the nodes as well.

| hash_on             | key           | what is hashed                                                        |
|---------------------|---------------|-----------------------------------------------------------------------|
| `vars`              | a variable    | its value                                                             |
| `header`            | a name        | the field's first value                                               |
| `cookie`            | a name        | the cookie's value                                                    |
| `consumer`          | none          | the X-Consumer-Username that an authentication plugin has written     |
| `vars_combinations` | a template    | the text with the value of each `$name` and `${name}` in its place    |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from os import uname
from typing import TYPE_CHECKING, Final

from shared.schema.balancing import VARIABLE_IN_TEMPLATE

if TYPE_CHECKING:
    from data_plane.config.snapshot import Peer
    from shared.schema.balancing import HashOn

HashKey = Callable[[bytes, "Peer | None"], bytes]

CONSUMER_FIELD: Final = "x-consumer-username"


def hash_key(hash_on: HashOn, key: str) -> HashKey:
    """`key` as the schema has accepted it."""
    if hash_on == "vars_combinations":
        read = _template(key)
    elif hash_on == "vars":
        read = _variable(key)
    elif hash_on == "cookie":
        read = _cookie(key)
    else:
        read = _field(key if hash_on == "header" else CONSUMER_FIELD)

    def value_or_address(head: bytes, peer: Peer | None) -> bytes:
        return read(head, peer) or _remote_addr(head, peer)

    return value_or_address


def _variable(name: str) -> HashKey:
    for prefix, make in _PREFIXES.items():
        if name.startswith(prefix):
            return make(name.removeprefix(prefix))
    return _VARIABLES[name]


def _template(text: str) -> HashKey:
    pieces: list[bytes | HashKey] = []
    end = 0
    for match in VARIABLE_IN_TEMPLATE.finditer(text):
        pieces += [text[end : match.start()].encode(), _variable(match[1] or match[2])]
        end = match.end()
    pieces.append(text[end:].encode())
    readers = [piece for piece in pieces if not isinstance(piece, bytes)]

    def combined(head: bytes, peer: Peer | None) -> bytes:
        values = iter([read(head, peer) for read in readers])
        parts = [piece if isinstance(piece, bytes) else next(values) for piece in pieces]
        return b"".join(parts)

    return combined


def _field(name: str) -> HashKey:
    # nginx's $http_x_y means X-Y; a name with `_` may also be sent so.
    pattern = "".join("[-_]" if letter in "-_" else re.escape(letter) for letter in name)
    line = re.compile(rb"\r\n%b:[ \t]*([^\r]*)" % pattern.encode(), re.IGNORECASE)

    def first_value(head: bytes, peer: Peer | None) -> bytes:
        match = line.search(head)
        return match[1].rstrip(b" \t") if match else b""

    return first_value


def _cookie(name: str) -> HashKey:
    lines = re.compile(rb"\r\nCookie:[ \t]*([^\r]*)", re.IGNORECASE)
    pair = re.compile(rb'(?:^|;)[ \t]*%b[ \t]*=[ \t]*"?([^;"]*)' % re.escape(name.encode()))

    def value(head: bytes, peer: Peer | None) -> bytes:
        match = pair.search(b";".join(lines.findall(head)))
        return match[1].rstrip(b" \t") if match else b""

    return value


def _argument(name: str) -> HashKey:
    pair = re.compile(rb"(?:^|&)%b=([^&]*)" % re.escape(name.encode()))

    def value(head: bytes, peer: Peer | None) -> bytes:
        match = pair.search(_query_string(head, peer))
        return match[1] if match else b""

    return value


def _request_uri(head: bytes, peer: Peer | None) -> bytes:
    """Empty for a TCP session, which has no head."""
    parts = head[: head.find(b"\r\n")].split(b" ")
    return parts[1] if len(parts) > 1 else b""


def _uri(head: bytes, peer: Peer | None) -> bytes:
    return _request_uri(head, peer).partition(b"?")[0]


def _query_string(head: bytes, peer: Peer | None) -> bytes:
    return _request_uri(head, peer).partition(b"?")[2]


def _request_method(head: bytes, peer: Peer | None) -> bytes:
    return head[: head.find(b" ")]


def _remote_addr(head: bytes, peer: Peer | None) -> bytes:
    return peer.client_address[0].encode() if peer is not None else b""


def _remote_port(head: bytes, peer: Peer | None) -> bytes:
    return b"%d" % peer.client_address[1] if peer is not None else b""


def _server_addr(head: bytes, peer: Peer | None) -> bytes:
    return peer.local_address[0].encode() if peer is not None else b""


_authority = _field("host")


def _host(head: bytes, peer: Peer | None) -> bytes:
    """In lower case without port; an IPv6 address keeps its brackets."""
    authority = _authority(head, peer).lower()
    return re.sub(rb":[0-9]*$", b"", authority)


def _server_name(head: bytes, peer: Peer | None) -> bytes:
    """What APISIX's one server is called."""
    return b"_"


def _hostname(head: bytes, peer: Peer | None) -> bytes:
    """The gateway's machine."""
    return uname().nodename.encode()


_PREFIXES: Final[dict[str, Callable[[str], HashKey]]] = {"arg_": _argument, "http_": _field, "cookie_": _cookie}

_VARIABLES: Final[dict[str, HashKey]] = {
    "uri": _uri,
    "request_uri": _request_uri,
    "query_string": _query_string,
    "request_method": _request_method,
    "host": _host,
    "hostname": _hostname,
    "server_name": _server_name,
    "server_addr": _server_addr,
    "remote_addr": _remote_addr,
    "remote_port": _remote_port,
    "consumer_name": _field(CONSUMER_FIELD),
}
