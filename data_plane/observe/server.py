"""A small HTTP server for pages that are read now and then: GET and HEAD, one request for each connection.

The law: whatever comes in, the answer is bounded and so is the wait for the request; a page that fails is a 500 and a log
line, and the next one is tried anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from itertools import filterfalse
from urllib.parse import unquote

import structlog

log = structlog.get_logger(__name__)

MOST_HEAD_BYTES = 8192
HEAD_SECONDS = 10.0
SEND_SECONDS = 30.0
# Pages that are read at once: a scraper or two, and an operator.
MOST_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    content_type: str
    body: bytes


def text(status: int, words: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", f"{words}\n".encode())


class LocalNames:
    """Which values of Host a page may be asked for by: addresses, the names of loopback, and those that were configured.

    A page of the open web can make a browser ask this server under a name of its own that leads here (DNS rebinding), and then
    reads the answer as its own. It cannot choose the name that the browser sends, and an address is no name.
    """

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = names

    def __call__(self, host: str) -> bool:
        name = host.lower()
        if name.startswith("["):
            name, _, port = name[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = name.partition(":")
        if port and not (port.isascii() and port.isdigit()):
            return False
        name = name.removesuffix(".")
        return name == "localhost" or name.endswith(".localhost") or name in self._names or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class PageServer:
    """`pages` maps a path (decoded, without its query) to a page; `answers_to` says for which Host, all of them if None."""

    def __init__(self, pages: Callable[[str], Page], answers_to: Callable[[str], bool] | None = None) -> None:
        self._pages = pages
        self._answers_to = answers_to
        self._open = 0

    async def start(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._connected, sock=listener, limit=MOST_HEAD_BYTES)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            await self._exchange(reader, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            head = b""
        method, page = self._answer(head)
        writer.write(_head(page))
        if method != "HEAD":
            writer.write(page.body)
        async with asyncio.timeout(SEND_SECONDS):
            await writer.drain()

    def _answer(self, head: bytes) -> tuple[str, Page]:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[1].startswith("/") or not words[2].startswith("HTTP/1."):
            return "", text(400, "this is no HTTP/1.1 request")
        method = words[0]
        if method not in ("GET", "HEAD"):
            return method, text(405, f"{method} is not known here, only GET and HEAD are")
        if self._open > MOST_CONNECTIONS:
            return method, text(503, "too many connections")
        strange = [] if self._answers_to is None else list(filterfalse(self._answers_to, _hosts(head)))
        if strange:
            return method, text(
                403, f"not for the host {strange[0][:253]!r}: ask by address, by localhost, or see control_hosts"
            )
        try:
            return method, self._pages(unquote(words[1].partition("?")[0]))
        except Exception:
            log.exception("page failed", path=words[1])
            return method, text(500, "the page could not be made, the log says why")


def _hosts(head: bytes) -> list[str]:
    """Every value of Host; an old client that sends none is no browser."""
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [value.strip().decode("latin-1") for name, _, value in fields if name.strip().lower() == b"host"]


def _head(page: Page) -> bytes:
    lines = [
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
