"""proxy-mirror: a copy of requests to another server, whose answers nobody reads.

The law: the request knows nothing of its copy. It is sent when the exchange is over, as the upstream got it, and only of what
went to an upstream; what cannot be copied in bounds (a body that is too long or did not come in full, too many copies under
way) is not copied. Of a mirror that fails the log hears once, until it works again.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from shared.plugin.fields import refused
from shared.plugin.host import FetchFailed
from shared.plugin.plugin import Plugin
from shared.plugin.request import Request, Response
from shared.schema.common import Maybe, Spec
from shared.schema.hosts import split_address

if TYPE_CHECKING:
    from shared.plugin.host import Host

# Of one request, and of all copies of one configuration in a worker that are under way.
BODY_BYTES = 1 << 20
BYTES_UNDER_WAY = 16 << 20
UNDER_WAY = 256
# What a mirror may take, as in APISIX.
SECONDS = 60.0
# Of its answers.
ANSWER_BYTES = 1 << 16

_PATH = re.compile(r"/[^?&#\s]+")


def _address(value: str) -> str:
    scheme, mark, address = value.partition("://")
    if scheme in ("grpc", "grpcs"):
        raise refused(f"{scheme} cannot be mirrored: expected http://HOST[:PORT] or https://HOST[:PORT]")
    if not mark or scheme not in ("http", "https"):
        raise refused(f"expected http://HOST[:PORT] or https://HOST[:PORT], got {value!r}")
    try:
        split_address(address)
    except ValueError as error:
        raise refused(str(error)) from None
    return value


def _path(value: str) -> str:
    if _PATH.fullmatch(value) is None:
        raise refused(f"expected a path without a query, got {value!r}")
    return value


class ProxyMirrorConfig(Spec):
    host: Annotated[str, AfterValidator(_address)]
    path: Maybe[Annotated[str, AfterValidator(_path)]] = None
    path_concat_mode: Literal["replace", "prefix"] = "replace"
    sample_ratio: Annotated[float, Field(ge=0.00001, le=1, allow_inf_nan=False)] = 1.0


class ProxyMirror(Plugin[ProxyMirrorConfig]):
    name = "proxy-mirror"
    priority = 1010
    Config = ProxyMirrorConfig

    def __init__(self, config: ProxyMirrorConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._copies = 0
        self._bytes = 0
        self._works = True

    def attach(self, host: Host) -> None:
        self._host = host

    def rewrite(self, request: Request) -> None:
        if self.config.sample_ratio < 1 and random.random() >= self.config.sample_ratio:
            return
        length = request.content_length
        if length is None or length <= BODY_BYTES:
            request.context[self] = True
            if length != 0:
                # One more tells a body that is too long.
                request.keep_body(BODY_BYTES + 1)

    def log(self, request: Request, response: Response | None) -> None:
        exchange = request.exchange
        if exchange is None or exchange.upstream_address is None or self not in request.context:
            return
        body = request.kept_body if request.content_length != 0 else b""
        is_whole = len(body) == exchange.request_bytes <= BODY_BYTES and request.content_length in (None, len(body))
        if not is_whole or self._copies >= UNDER_WAY or self._bytes + len(body) > BYTES_UNDER_WAY:
            return
        self._copies += 1
        self._bytes += len(body)
        copy = self._send(request.upstream_method, self._url(request.target), request.headers(), body)
        self._host.background("proxy-mirror", copy)

    def _url(self, target: str) -> str:
        config = self.config
        path, mark, query = target.partition("?")
        if config.path is not None:
            path = config.path + path if config.path_concat_mode == "prefix" else config.path
        return config.host + path + mark + query

    async def _send(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> None:
        try:
            await self._host.fetch(
                method, url, headers=headers, body=body, seconds=SECONDS, verify=False, max_body=ANSWER_BYTES
            )
        except FetchFailed as error:
            if self._works:
                self._works = False
                self._host.failed(self.name, error)
        else:
            self._works = True
        finally:
            self._copies -= 1
            self._bytes -= len(body)
