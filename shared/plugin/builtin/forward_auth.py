"""forward-auth: another service says whether a request may pass.

The law: a service that says neither yes nor no lets nobody pass, unless the operator has said so; what it is asked holds the
request as the gateway understood it, and what of its answer goes on is what the operator has named.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shared.plugin.body import WholeBody
from shared.plugin.fields import HeaderName, HeaderTemplate, HttpUrl, Status, refused
from shared.plugin.host import Fetched, FetchFailed, Host
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.plugin.template import compile_template
from shared.schema.common import MAX_INT, Array, Maybe, Spec

# Of a request's body that the service gets with POST.
_LARGEST_BODY = 8 * 1024 * 1024
# A service that is gone is reported so often at most, however many requests ask it.
_REPORT_SECONDS = 10.0
# What is fixed at the end of a response, and goes before what a client sent under the same name.
_ABOUT = ("x-forwarded-proto", "x-forwarded-method", "x-forwarded-host", "x-forwarded-uri", "x-forwarded-for")


def _replaceable(name: str) -> str:
    if name.lower() == "host":
        raise refused("the Host of a request is not what a service answers")
    return name


class ForwardAuthConfig(Spec):
    """`timeout` in milliseconds. Connections are kept as the gateway keeps its own: `keepalive` and its kin change nothing."""

    uri: HttpUrl
    ssl_verify: bool = True
    request_method: Literal["GET", "POST"] = "GET"
    request_headers: Array[HeaderName] = ()
    extra_headers: Maybe[Annotated[dict[HeaderName, HeaderTemplate], Field(min_length=1)]] = None
    upstream_headers: Array[Annotated[HeaderName, AfterValidator(_replaceable)]] = ()
    client_headers: Array[HeaderName] = ()
    timeout: Annotated[int, Field(ge=1, le=60000)] = 3000
    allow_degradation: bool = False
    status_on_error: Status = 403
    keepalive: bool = True
    keepalive_timeout: Annotated[int, Field(ge=1000, le=MAX_INT)] = 60000
    keepalive_pool: Annotated[int, Field(ge=1, le=MAX_INT)] = 5


class ForwardAuth(Plugin[ForwardAuthConfig]):
    name = "forward-auth"
    priority = 2002
    Config = ForwardAuthConfig
    _host: Host

    def __init__(self, config: ForwardAuthConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._extra = [(name, compile_template(value)) for name, value in (config.extra_headers or {}).items()]
        told = {*_ABOUT, *(name.lower() for name, _ in self._extra)}
        self._of_client = [name for name in config.request_headers if name.lower() not in told]
        self._error = Reply(config.status_on_error)
        self._reported = -_REPORT_SECONDS

    def attach(self, host: Host) -> None:
        self._host = host

    def rewrite(self, request: Request) -> WholeBody | Awaitable[Reply | None]:
        if self.config.request_method == "POST":
            return WholeBody(_LARGEST_BODY, self._ask)
        return self._ask(request, b"")

    async def _ask(self, request: Request, body: bytes) -> Reply | None:
        config = self.config
        headers = self._headers(request)
        seconds = config.timeout / 1000
        try:
            answer = await self._host.fetch(
                config.request_method, config.uri, headers=headers, body=body, seconds=seconds, verify=config.ssl_verify
            )
        except FetchFailed as error:
            self._report(error)
            return None if config.allow_degradation else self._error
        if answer.status >= 300:
            return self._refusal(answer)
        self._tell_upstream(request, answer)
        return None

    def _report(self, error: FetchFailed) -> None:
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self._host.failed(self.name, error)

    def _headers(self, request: Request) -> list[tuple[str, str]]:
        headers = [
            ("X-Forwarded-Proto", request.scheme),
            ("X-Forwarded-Method", request.method),
            ("X-Forwarded-Host", request.host),
            ("X-Forwarded-Uri", request.asked_target),
            ("X-Forwarded-For", request.client_ip),
        ]
        coding = request.header("content-encoding")
        if self.config.request_method == "POST" and coding is not None:
            headers.append(("Content-Encoding", coding))
        extra = ((name, template.render(request)) for name, template in self._extra)
        headers += [(name, value) for name, value in extra if value]
        headers += [(name, value) for name in self._of_client for value in request.header_values(name)]
        return headers

    def _refusal(self, answer: Fetched) -> Reply:
        wanted = {name.lower() for name in self.config.client_headers}
        headers = tuple((name, value) for name, value in answer.headers if name.lower() in wanted)
        return Reply(answer.status, answer.body, headers)

    def _tell_upstream(self, request: Request, answer: Fetched) -> None:
        """What the service did not send, the client cannot send in its place."""
        for name in self.config.upstream_headers:
            request.remove_header(name)
            for key, value in answer.headers:
                if key.lower() == name.lower():
                    request.add_header(name, value)
