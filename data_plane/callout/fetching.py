"""HTTP calls of native plugins (Host.fetch): a URL in, a whole response out.

The law: they go over the same pools as the calls of Wasm plugins, under the same rules; whoever no longer waits ends the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from data_plane.callout.http_call import HttpCall
from data_plane.callout.http_message import Asked, BadCall, compose, read_fields
from data_plane.callout.target import Target, TargetError, find_target
from data_plane.config.snapshot import Route
from shared.plugin.host import Fetched, FetchFailed

if TYPE_CHECKING:
    from data_plane.callout.service import CalloutService
    from shared.proxy_wasm.callouts import PendingCall
    from shared.proxy_wasm.failures import VmFailed
    from shared.proxy_wasm.pairs import Pairs


class _Waiting:
    """In the place of a VM's call: what it is told goes to whoever awaits."""

    __slots__ = ("_answer",)

    def __init__(self, answer: asyncio.Future[Fetched]) -> None:
        self._answer = answer

    def respond(self, fields: Pairs, body: bytes, trailers: Pairs) -> None:
        if not self._answer.done():
            (_, status), *rest = fields
            headers = tuple((_text(name), _text(value)) for name, value in rest)
            self._answer.set_result(Fetched(int(status), headers, body))

    def fail(self, reason: bytes) -> None:
        if not self._answer.done():
            self._answer.set_exception(FetchFailed(reason.decode()))


class Fetching:
    """As `Host.fetch` has it."""

    def __init__(self, service: CalloutService) -> None:
        self._service = service

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        seconds: float = 60.0,
        verify: bool = True,
        max_body: int = 1024 * 1024,
    ) -> Fetched:
        try:
            target, path = _parsed(url)
            asked = _asked(method, path, target, headers)
            composed = compose(asked, target.authority, body, ())
        except (BadCall, TargetError) as error:
            raise FetchFailed(str(error)) from None
        loop = self._service.loop
        answer: asyncio.Future[Fetched] = loop.create_future()
        route = Route("", "", target.upstream, (), target.upstream.timeouts)
        serving = self._service.serving(target.tls, verify=verify)
        call = HttpCall(loop, serving, cast("PendingCall", _Waiting(answer)), composed, route, max_body, _no_vm)
        call.begin(seconds)
        try:
            return await answer
        finally:
            call.cancel()


def _asked(method: str, path: bytes, target: Target, headers: Sequence[tuple[str, str]]) -> Asked:
    fields = [(_bytes(name), _bytes(value)) for name, value in headers if name.lower() != "host"]
    pseudo = ((b":method", method.encode()), (b":path", path), (b":authority", target.authority))
    return read_fields((*pseudo, *fields), defaults=False)


# The URLs are those of configurations.
@lru_cache(maxsize=256)
def _parsed(url: str) -> tuple[Target, bytes]:
    """Raises TargetError."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise TargetError("expected a URL of http or https with a host and without a user")
        target = find_target(f"{parts.scheme}://{parts.netloc}".encode(), lambda name: None, parts.scheme)
    except ValueError as error:
        raise error if isinstance(error, TargetError) else TargetError(str(error)) from None
    query = f"?{parts.query}" if parts.query else ""
    return target, f"{parts.path or '/'}{query}".encode()


def _no_vm(failure: VmFailed) -> None:
    """No VM hears of these calls."""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
