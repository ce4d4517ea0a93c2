"""Native plugins as an operator configures them, in an exchange whose ports only record.

The law: a configuration is read and compiled as in a worker; what comes out is what an upstream and a client get, parsed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data_plane.config.snapshot import Route
from data_plane.exchange.exchange import Exchange
from data_plane.exchange.messages import CHUNKED, ResponseHead
from data_plane.exchange.opening import open_exchange
from data_plane.http.forwarded import Forwarding
from data_plane.http.head import parse_request
from shared.plugin.consumer import Consumer
from shared.plugin.counters import Counters
from shared.plugin.host import Fetched
from shared.plugin.registry import registry
from shared.schema.errors import SchemaError
from shared.schema.resources import RESOURCES, validate
from tests.support.config import Config
from tests.support.exchange import Client, Conn, Stage
from tests.support.plugin_host import RecordingHost

CLIENT = ("10.0.0.1", 1234)


@dataclass
class Message:
    """A head and what of its body was sent with it. `fields` in order, names in lower case."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> Message:
        head, _, body = data.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
        return cls(line, fields, body)

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    def __getitem__(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


@dataclass
class Recorded:
    """What went out, by whom it was for."""

    upstream: list[bytes] = field(default_factory=list)
    client: list[bytes] = field(default_factory=list)
    keep: bool = False
    cut: bool = False


class RecordingConn(Conn):
    def __init__(self, stage: Stage, recorded: Recorded) -> None:
        super().__init__(stage, "a", True)
        self._recorded = recorded

    def begin(self, exchange: object, data: bytes, read_timeout: float) -> None:
        self._recorded.upstream.append(data)

    def send(self, data: bytes) -> None:
        self._recorded.upstream.append(data)


class RecordingClient(Client):
    def __init__(self, stage: Stage, recorded: Recorded, address: tuple[str, int]) -> None:
        super().__init__(stage)
        self._recorded = recorded
        self.client_address = address

    def send(self, data: bytes) -> None:
        self._recorded.client.append(data)

    def finish(self, data: bytes, keep_alive: bool) -> None:
        self._recorded.client.append(data)
        self._recorded.keep = keep_alive

    def cut(self, hard: bool) -> None:
        self._recorded.cut = True


# By username, what each says of itself to auth plugins.
Consumers = Mapping[str, Mapping[str, Any]]


def enlist(host: RecordingHost, consumers: Consumers) -> None:
    for username, parts in consumers.items():
        host.index.names[username] = Consumer(username)
        for name, part in parts.items():
            plugin = registry().plugins[name]
            auth = plugin.Consumer.model_validate(part)
            host.index.table(name).add(plugin.consumer_key(auth), Consumer(username, auth=auth))


def compiled(
    plugins: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None, host: RecordingHost | None = None
) -> Route:
    """The route that an operator gets who writes these plugins."""
    config = Config(host)
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "upstream": {"nodes": {"u.test:80": 1}}, "name": "one"})
    for name, value in (metadata or {}).items():
        config.put("plugin_metadata", name, value)
    route = config.route("1")
    assert not config.compiler.problems, config.compiler.problems
    return route


class Native:
    """One request at a time through the plugins of a route."""

    def __init__(
        self,
        plugins: Mapping[str, Any],
        *,
        address: tuple[str, int] = CLIENT,
        scheme: str = "http",
        metadata: Mapping[str, Any] | None = None,
        counters: Counters | None = None,
        consumers: Consumers | None = None,
        answer: Callable[[str, str], Fetched] | None = None,
    ) -> None:
        """`answer`: what calls of plugins bring."""
        self.host = RecordingHost(answer, counters=counters)
        enlist(self.host, consumers or {})
        self._begin(compiled(plugins, metadata=metadata, host=self.host), address, scheme)

    @classmethod
    def of(cls, route: Route, *, address: tuple[str, int] = CLIENT, scheme: str = "http") -> Native:
        """Through a route that is compiled already."""
        native = cls.__new__(cls)
        native._begin(route, address, scheme)
        return native

    def _begin(self, route: Route, address: tuple[str, int], scheme: str) -> None:
        self.route = route
        assert route.program is not None
        self.stage = Stage(program=route.program)
        self._address, self._scheme = address, scheme
        self.recorded = Recorded()
        self.exchange: Exchange

    def request(
        self, target: str = "/p", *fields: str, method: str = "GET", body: bytes = b"", minor: int = 1, eos: bool = True
    ) -> Message | None:
        """What the upstream gets; None when the client got an answer instead (`reply`), or nothing has happened yet."""
        recorded = self.recorded = Recorded()
        lines = [f"{method} {target} HTTP/1.{minor}", "Host: t", *fields]
        if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in fields):
            lines.append(f"Content-Length: {len(body)}")
        forwarding = Forwarding(self._address[0], 80, self._scheme)
        head = parse_request("".join(f"{line}\r\n" for line in lines).encode(), forwarded=forwarding.lines)
        self.stage.pool.idle = [RecordingConn(self.stage, recorded)]
        self.exchange = open_exchange(self.stage, RecordingClient(self.stage, recorded, self._address), head)
        self.exchange.start(body, eos)
        return Message.of(b"".join(recorded.upstream)) if recorded.upstream else None

    def reply(self, target: str = "/p", *fields: str, **options: Any) -> Message:  # noqa: ANN401 - as `request`
        """What the client gets without the upstream."""
        assert self.request(target, *fields, **options) is None
        return self.answer

    def response(self, *pieces: bytes, status: int = 200, fields: tuple[str, ...] = (), chunked: bool = False) -> Message:
        """What the client gets of an upstream's response in these pieces."""
        length = CHUNKED if chunked else sum(map(len, pieces))
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % length
        opened = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} X", *fields)).encode()
        first, rest = (pieces[0], pieces[1:]) if pieces else (b"", ())
        self.exchange.upstream_response(ResponseHead(status, opened, length, framing, True), first, not rest and not chunked)
        for index, piece in enumerate(rest):
            self.exchange.upstream_body(piece, index == len(rest) - 1 and not chunked)
        if chunked:
            self.exchange.upstream_body(b"", True)
        return self.answer

    def passed(self, *fields: str, target: str = "/p", **options: Any) -> Message:  # noqa: ANN401 - as `response`
        """The response to a plain request."""
        assert self.request(target, *fields) is not None
        return self.response(b"hello", **options)

    @property
    def answer(self) -> Message:
        return Message.of(b"".join(self.recorded.client))


def refusal(plugin: str, conf: object) -> str:
    """What the Admin API says to this configuration."""
    try:
        validate(RESOURCES["plugin_configs"].model, {"plugins": {plugin: conf}})
    except SchemaError as error:
        path = error.problems[0].path
        return f"{path} {error.problems[0].text.partition('err: ')[2] or error.problems[0].text}"
    return "accepted"
