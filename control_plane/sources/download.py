"""GET over HTTP, for modules: to checked addresses, within a size and a time.

The law: a connection is made to an address that was checked, never to a name that could mean another one a moment later; every
redirect is checked like the first request. Nothing is fetched over a proxy, no credentials go to another origin than that which
they are for, and no more than the limit is held in memory.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import httpx

from control_plane.sources.addresses import resolve
from control_plane.sources.failure import SourceError

# From the first look-up to the last byte: 32 MiB in a minute is a slow line.
TOTAL_SECONDS = 60.0
# Without a byte, or without a connection.
QUIET_SECONDS = 10.0
MOST_REDIRECTS = 5
# Addresses of one host that are tried.
MOST_ADDRESSES = 3
DEFAULT_PORTS = {"http": 80, "https": 443}
REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is no redirect, whatever its status. Field names are in lower case."""

    url: str
    status: int
    fields: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Downloader:
    allow_private: bool = False
    total_seconds: float = TOTAL_SECONDS

    async def get(self, url: str, limit: int, fields: Mapping[str, str] | None = None) -> Answer:
        """Raises SourceError."""
        try:
            async with asyncio.timeout(self.total_seconds):
                return await self._followed(httpx.URL(url), limit, dict(fields or {}))
        except TimeoutError:
            raise SourceError(f"not within {self.total_seconds:g} s") from None
        except httpx.InvalidURL as error:
            raise SourceError(f"not a URL: {error}") from error

    async def _followed(self, url: httpx.URL, limit: int, fields: dict[str, str]) -> Answer:
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self._asked(url, limit, fields)
            location = answer.fields.get("location")
            if answer.status not in REDIRECTS or location is None:
                return answer
            target = url.join(location)
            if target.scheme != url.scheme and target.scheme != "https":
                raise SourceError(f"redirected from {url.scheme} to {target.scheme or 'nothing'}: {location[:200]}")
            if _origin(target) != _origin(url):
                fields.pop("authorization", None)
            url = target
        raise SourceError(f"redirected more than {MOST_REDIRECTS} times")

    async def _asked(self, url: httpx.URL, limit: int, fields: Mapping[str, str]) -> Answer:
        if url.scheme not in DEFAULT_PORTS or not url.host:
            raise SourceError(f"neither http nor https: {str(url)[:200]}")
        port = url.port or DEFAULT_PORTS[url.scheme]
        addresses = await resolve(url.host, port, allow_private=self.allow_private)
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return await _one(url, address, limit, fields)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except httpx.HTTPError as error:
                raise SourceError(f"{url.host}: {_said(error)}") from error
        raise SourceError(f"{url.host} cannot be reached: {_said(failure)}") from failure


async def _one(url: httpx.URL, address: str, limit: int, fields: Mapping[str, str]) -> Answer:
    """To this address, by the name that the URL has: in Host, and in TLS."""
    headers = {"host": url.netloc.decode("ascii"), "accept-encoding": "identity", **fields}
    request = httpx.Request("GET", url.copy_with(host=address), headers=headers, extensions={"sni_hostname": url.host})
    timeout = httpx.Timeout(QUIET_SECONDS)
    async with httpx.AsyncClient(verify=_tls(), trust_env=False, timeout=timeout, follow_redirects=False) as client:
        request.extensions["timeout"] = timeout.as_dict()
        response = await client.send(request, stream=True)
        try:
            body = await _body(response, limit)
        finally:
            await response.aclose()
    return Answer(str(url), response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


async def _body(response: httpx.Response, limit: int) -> bytes:
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise SourceError(f"{announced} bytes, more than the maximum of {limit}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise SourceError(f"its content-encoding is {response.headers['content-encoding'][:50]}, which was not asked for")
    data = bytearray()
    async for piece in response.aiter_raw():
        data += piece
        if len(data) > limit:
            raise SourceError(f"more than the maximum of {limit} bytes")
    return bytes(data)


@cache
def _tls() -> ssl.SSLContext:
    """The certificates that the system trusts, or those that SSL_CERT_FILE names."""
    return ssl.create_default_context()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or DEFAULT_PORTS.get(url.scheme)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
