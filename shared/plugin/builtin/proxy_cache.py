"""proxy-cache: responses of upstreams, kept for those who ask the same.

The law: what is kept is what an upstream has said, before any plugin touched it, in full; what other plugins do to responses
they do to kept ones as well. Keys never mix routes, schemes, hosts, methods (but a HEAD is answered from a GET's) or, with
`consumer_isolation`, consumers; a body that a request brings is part of its key, or the request is none for the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from shared.limits.rows import EXPIRY, prefix_of
from shared.plugin.body import WholeBody
from shared.plugin.builtin.caching import directives, lifetime, may_be_kept, seconds, variant, varied_by
from shared.plugin.fields import Status, refused
from shared.plugin.head import Head
from shared.plugin.plugin import Answer, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.plugin.responses import Zone, ZoneFailed
from shared.plugin.template import Template, compile_template
from shared.schema.common import MAX_INT, Maybe, SomeUnique, Spec

if TYPE_CHECKING:
    from shared.plugin.host import Host

STATUS = "Apisix-Cache-Status"
# The zones that there are.
ZONES = {"disk": "disk_cache_one", "memory": "memory_cache"}
# Of one body; a longer one passes by.
BODY_BYTES = {"disk": 4 << 20, "memory": 1 << 20}
# Of a request's, as part of a key.
POSTED_BYTES = 64 << 10

# Behind the expiry: a response, or the names of the fields that it varies by.
_RESPONSE, _VARIES = b"R", b"V"
# When it was made (Unix time), for how long it is fresh, the length of its head.
_KEPT = Struct("<ddI")


def _value(source: str) -> str:
    try:
        template = compile_template(source)
    except ValueError as error:
        raise refused(str(error)) from None
    if template.constant is None and not source.startswith("$"):
        raise refused(f"expected text, or one variable, got {source!r}")
    return source


def _key(items: tuple[str, ...]) -> tuple[str, ...]:
    for item in items:
        if item in ("$request_method", "$method"):
            raise refused(f"cache_key variable {item} unsupported: the method is part of every key")
    return items


Values = Annotated[tuple[Annotated[str, Field(min_length=1), AfterValidator(_value)], ...], Field(strict=False, min_length=1)]


class ProxyCacheConfig(Spec):
    """`cache_ttl` in seconds."""

    cache_strategy: Literal["disk", "memory"] = "disk"
    cache_zone: str = "disk_cache_one"
    cache_key: Annotated[Values, AfterValidator(_key)] = ("$host", "$request_uri")
    cache_method: SomeUnique[Literal["GET", "POST", "HEAD"]] = ("GET", "HEAD")
    cache_http_status: SomeUnique[Status] = (200, 301, 404)
    cache_ttl: Annotated[int, Field(ge=1, le=MAX_INT)] = 300
    cache_bypass: Maybe[Values] = None
    no_cache: Maybe[Values] = None
    cache_control: bool = False
    hide_cache_headers: bool = False
    consumer_isolation: bool = True
    cache_set_cookie: bool = False

    @model_validator(mode="after")
    def _zone_is_there(self) -> Self:
        if self.cache_zone not in ZONES.values():
            raise refused(f"cache_zone {self.cache_zone} not found: expected {' or '.join(ZONES.values())}")
        if self.cache_zone != ZONES[self.cache_strategy]:
            raise refused(f"invalid or empty cache_zone for cache_strategy: {self.cache_strategy}")
        return self


class _Asked:
    """What is known of a request that may be answered from the zone, and of what may be kept of its response."""

    __slots__ = ("age", "body", "complete", "head", "key", "label", "names", "size", "ttl")

    def __init__(self, key: bytes | None, label: str) -> None:
        """Without a key nothing will be kept."""
        self.key = key
        self.label = label
        self.head: bytes | None = None
        self.names: list[str] = []
        # Seconds: how old the response was when it came, and how old it may become.
        self.age = 0
        self.ttl = 0.0
        self.body: list[bytes] = []
        self.size = 0
        self.complete = False


class KeptReply(Reply):
    """An open head as it was kept. Its fields are taken apart for those who ask (a chain with Wasm plugins, `_meta`)."""

    __slots__ = ("_head",)

    def __init__(self, head: bytes, body: bytes) -> None:
        self.status = int(head[9:12])
        self.body = body
        self._head = head

    def __getattr__(self, name: str) -> tuple[tuple[str, str], ...]:
        if name != "headers":
            raise AttributeError(name)
        self.headers = tuple(Head(self._head).headers())
        return self.headers

    def open_head(self) -> bytes:
        return self._head


class ProxyCache(Plugin[ProxyCacheConfig]):
    name = "proxy-cache"
    priority = 1085
    Config = ProxyCacheConfig
    clock = staticmethod(time.time)

    def __init__(self, config: ProxyCacheConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._parts = [_KEYS.get(part) or compile_template(part).render for part in config.cache_key]
        self._bypass = [compile_template(part) for part in config.cache_bypass or ()]
        self._no_cache = [compile_template(part) for part in config.no_cache or ()]
        self._statuses = frozenset(config.cache_http_status)
        self._most = BODY_BYTES[config.cache_strategy]
        self._zone: Zone
        self._has_failed = False

    def attach(self, host: Host) -> None:
        self._host = host
        self._zone = host.zone(self.config.cache_strategy, self.config.cache_zone)
        self._prefix = prefix_of(self.name, self.owner)

    # The request.

    def access(self, request: Request) -> Answer:
        method = request.method
        if method == "PURGE":
            return self._purge(request)
        if method not in self.config.cache_method:
            request.context[self] = _Asked(None, "MISS")
            return None
        if request.content_length == 0:
            return self._look(request, b"")
        length = request.content_length
        if method != "POST" or length is None or length > POSTED_BYTES:
            request.context[self] = _Asked(None, "BYPASS")
            return None
        return WholeBody(POSTED_BYTES, self._look)

    def _key(self, request: Request, method: str, body: bytes) -> bytes:
        consumer = request.consumer if self.config.consumer_isolation else None
        route = "" if request.route is None else request.route.id
        whose = None if consumer is None else consumer.username
        parts = (route, request.scheme, request.host, method, whose, [part(request) for part in self._parts])
        # As Python writes it, each part has its quotes.
        return blake2b(self._prefix + repr(parts).encode() + body, digest_size=20).digest()

    def _purge(self, request: Request) -> Reply:
        try:
            return Reply(200 if self._zone.purge(self._key(request, "GET", b"")) else 404)
        except ZoneFailed as error:
            self._failed(error)
            return Reply(503, {"error_msg": "the cache cannot be used"})

    def _look(self, request: Request, body: bytes) -> Reply | None:
        config = self.config
        said = directives(request.header_values("cache-control")) if config.cache_control else {}
        key = self._key(request, "POST" if request.method == "POST" else "GET", body)
        label, answer = "BYPASS", None
        if not _is_set(self._bypass, request) and "no-cache" not in said and "no-store" not in said:
            label, answer = self._found(request, key, said)
        # A HEAD's response has nothing to keep.
        request.context[self] = _Asked(None if request.method == "HEAD" or "no-store" in said else key, label)
        if answer is None and "only-if-cached" in said and label != "BYPASS":
            return Reply(504)
        return answer

    def _found(self, request: Request, key: bytes, said: dict[str, str]) -> tuple[str, Reply | None]:
        try:
            row = self._zone.get(key)
            if row is not None and row[EXPIRY.size : EXPIRY.size + 1] == _VARIES:
                row = self._zone.get(key + _variant(request, _names(row)))
        except ZoneFailed as error:
            self._failed(error)
            return "MISS", None
        if row is None:
            return "MISS", None
        now = self.clock()
        kept_at, ttl, length = _KEPT.unpack_from(row, EXPIRY.size + 1)
        age = now - kept_at
        label = _freshness(age, ttl, said)
        if label != "HIT":
            return label, None
        start = EXPIRY.size + 1 + _KEPT.size
        head = row[start : start + length] + b"Age: %d\r\n" % max(0, age)
        return label, KeptReply(head, row[start + length :])

    # The response.

    def header_filter(self, request: Request, response: Response) -> None:
        asked: _Asked | None = request.context.get(self)
        if asked is None:
            return
        if asked.key is not None and asked.label != "HIT" and response.status in self._statuses and response.status != 206:
            self._begin_to_keep(asked, request, response)
        response.set_header(STATUS, asked.label)
        if self.config.hide_cache_headers:
            _hide(response)

    def _begin_to_keep(self, asked: _Asked, request: Request, response: Response) -> None:
        came = Head(response.came)
        said = directives(came.header_values("cache-control"))
        names = varied_by(came.header_values("vary"))
        age = seconds(came.header("age")) or 0
        ttl = self._lifetime(said, came, age)
        is_for_one = not self.config.cache_set_cookie and came.header("set-cookie") is not None
        if names is None or is_for_one or ttl <= age or response.content_length > self._most:
            return
        # An authenticated consumer's responses are its own: its name is part of the key.
        isolated = self.config.consumer_isolation and request.consumer is not None
        with_credentials = not isolated and Head(request.asked.open).header("authorization") is not None
        if may_be_kept(said, with_credentials=with_credentials) and not _is_set(self._no_cache, request):
            asked.head, asked.names, asked.ttl, asked.age = response.came, names, ttl, age

    def _lifetime(self, said: dict[str, str], head: Head, age: int) -> float:
        """Seconds. The zone in memory, as in APISIX, hears what responses say only where the configuration says so."""
        config = self.config
        if config.cache_strategy == "memory" and not config.cache_control:
            return age + config.cache_ttl
        found = lifetime(said, head.header("expires"), self.clock())
        if found is None:
            return 0 if config.cache_control else age + config.cache_ttl
        return min(found, MAX_INT)

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        asked: _Asked | None = request.context.get(self)
        if asked is not None and asked.head is not None:
            asked.size += len(data)
            if asked.size > self._most:
                asked.head = None
                asked.body.clear()
            else:
                asked.body.append(data)
                asked.complete = eos
        return data

    def log(self, request: Request, response: Response | None) -> None:
        asked: _Asked | None = request.context.get(self)
        exchange = request.exchange
        if asked is None or asked.head is None or asked.key is None or not asked.complete:
            return
        # What other plugins have answered is nobody's to keep.
        if exchange is not None and exchange.upstream_address is not None:
            try:
                self._keep(asked, asked.key, asked.head, request)
            except ZoneFailed as error:
                self._failed(error)

    def _keep(self, asked: _Asked, key: bytes, head: bytes, request: Request) -> None:
        zone, born = self._zone, self.clock() - asked.age
        expires = EXPIRY.pack(born + asked.ttl)
        before = zone.get(key)
        varied = before is not None and before[EXPIRY.size : EXPIRY.size + 1] == _VARIES
        if before is not None and (_names(before) if varied else []) != asked.names:
            # What was chosen by other fields cannot be found any more.
            zone.purge(key)
            before = None
        if asked.names:
            if before is None or EXPIRY.unpack_from(before)[0] < born + asked.ttl:
                zone.put(key, expires + _VARIES + ",".join(asked.names).encode())
            key += _variant(request, asked.names)
        kept = Head(head)
        for name in _NOT_KEPT:
            kept.remove_header(name)
        row = (expires, _RESPONSE, _KEPT.pack(born, asked.ttl, len(kept.raw)), kept.raw, *asked.body)
        zone.put(key, b"".join(row))

    def _failed(self, error: ZoneFailed) -> None:
        """Requests go on without the cache; the log hears of it once."""
        if not self._has_failed:
            self._has_failed = True
            self._host.failed(self.name, error)


# What the plugin writes itself, each time anew.
_NOT_KEPT = ("Age", STATUS)
# Most keys are made of these; their variables say the same.
_KEYS: dict[str, Callable[[Request], str]] = {
    "$host": lambda request: request.host,
    "$request_uri": lambda request: request.asked_target,
    "$uri": lambda request: request.path,
}


def _hide(head: Head) -> None:
    head.remove_header("Expires")
    head.remove_header("Cache-Control")


def _is_set(values: list[Template], request: Request) -> bool:
    return any(value.render(request) not in ("", "0") for value in values)


def _names(row: bytes) -> list[str]:
    return row[EXPIRY.size + 1 :].decode().split(",")


def _variant(request: Request, names: list[str]) -> bytes:
    """By what the client has sent."""
    head = Head(request.asked.open)
    return variant(names, {name: head.header_values(name) for name in names})


def _freshness(age: float, ttl: float, said: dict[str, str]) -> str:
    """HIT for what may be used; `said`: the request's directives, as far as they count."""
    over = age - ttl
    most_stale = seconds(said["max-stale"]) if "max-stale" in said else None
    if over > 0 and "max-stale" in said and (most_stale is None or over <= most_stale):
        over = 0
    if over > 0:
        return "EXPIRED"
    oldest, freshest = seconds(said.get("max-age")), seconds(said.get("min-fresh"))
    if (oldest is not None and age > oldest) or (freshest is not None and ttl - age < freshest):
        return "STALE"
    return "HIT"
