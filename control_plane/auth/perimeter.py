"""What is refused before anybody looks at a key: requests that did not come here straight.

The law: a browser that was led here by somebody else's name or page is refused (DNS rebinding, RFC 6454), and so is what came
through a proxy that nobody named, the gateway itself first of all: no route makes an Admin API reachable. The connection says
who the client is, or a proxy that is trusted.

| refused with 403     | when                                                                                  |
|----------------------|---------------------------------------------------------------------------------------|
| a foreign Host       | names are checked and it is no address, not `localhost` and none of those that were set |
| a foreign Origin     | its host and port are not those that were asked                                         |
| a forwarded request  | it has a field of proxies, and the peer is no trusted one                               |
| a foreign address    | there is a list of those that may come, and it is not on it                             |
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane.auth.keys import is_within
from control_plane.errors import answer
from shared.networks import Network

# Waspgate's gateway sends the first four with every request (data_plane/http/forwarded.py).
OF_PROXIES = ("x-forwarded-for", "x-real-ip", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via")


class Perimeter:
    """`hosts` None: names are not checked. `allowed` empty: everybody may come."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str] | None = None,
        trusted: Sequence[Network] = (),
        allowed: Sequence[Network] = (),
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._trusted = trusted
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        peer = (scope.get("client") or ("", 0))[0]
        client = self._client(peer, headers)
        refusal = self._refusal(headers, client)
        if refusal is not None:
            await answer(403, {"error_msg": refusal})(scope, receive, send)
            return
        # For whoever is around this, too.
        scope.setdefault("state", {})["client"] = client
        await self._app(scope if client == peer else {**scope, "client": (client, 0)}, receive, send)

    def _client(self, peer: str, headers: Headers) -> str | None:
        """None when nobody who is trusted says who it is."""
        if not any(name in headers for name in OF_PROXIES):
            return peer
        if not is_within(peer, self._trusted):
            return None
        hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]
        for hop in reversed(hops):
            if not is_within(hop, self._trusted):
                return hop if _is_address(hop) else None
        return peer

    def _refusal(self, headers: Headers, client: str | None) -> str | None:
        if client is None:
            return "this request came through a proxy that the Admin API does not trust (see admin_trusted_addresses)"
        if self._allowed and not is_within(client, self._allowed):
            return "this address may not use the Admin API"
        host = headers.get("host", "")
        if self._hosts is not None and not _is_ours(_without_port(host), self._hosts):
            return "the Admin API is not known under this name (see admin_hosts)"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "the Admin API answers no pages of other origins"
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_ours(name: str, hosts: frozenset[str]) -> bool:
    return name.lower().rstrip(".") in hosts or name.lower() == "localhost" or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
