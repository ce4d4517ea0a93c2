"""What is refused before anybody looks at a key."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from control_plane.auth.perimeter import OF_PROXIES, Perimeter
from data_plane.http.forwarded import Forwarding

PROXIES = (ip_network("172.16.0.0/12"),)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who the client is."""
    await PlainTextResponse(scope["client"][0])(scope, receive, send)


async def ask(client: str = "127.0.0.1", guard: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(Perimeter(application, **guard or {}), client=(client, 1))
    fields: dict[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9180") as http:
        return await http.get("/apisix/admin/routes", headers=fields)


@pytest.mark.parametrize("name", OF_PROXIES)
async def test_what_came_through_a_proxy_is_refused(name: str) -> None:
    forwarded: dict[str, Any] = {name: "x"}
    response = await ask(**forwarded)
    assert response.status_code == 403
    assert "came through a proxy" in response.json()["error_msg"]


def test_the_gateway_says_of_every_request_that_it_was_forwarded() -> None:
    lines = Forwarding("192.0.2.1", 9080).lines(b"any.test", {})
    named = {line.partition(b":")[0].lower().decode() for line in lines.splitlines()}
    assert named
    assert named <= set(OF_PROXIES)


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("6.6.6.6, 10.1.2.3", "10.1.2.3"),
        ("10.1.2.3, 172.16.9.9", "10.1.2.3"),
        ("172.16.9.9", "172.16.0.1"),
        ("nobody", None),
        ("10.1.2.3, nobody", None),
    ],
)
async def test_a_trusted_proxy_says_who_the_client_is(said: str, client: str | None) -> None:
    response = await ask("172.16.0.1", {"trusted": PROXIES}, X_Forwarded_For=said)
    assert (response.status_code, response.text) == (200, client) if client else response.status_code == 403
    # Nobody else may say so.
    assert (await ask("192.0.2.1", {"trusted": PROXIES}, X_Forwarded_For=said)).status_code == 403


@pytest.mark.parametrize(("client", "status"), [("10.1.1.1", 200), ("192.0.2.1", 403), ("", 403)])
async def test_only_some_addresses_may_come(client: str, status: int) -> None:
    assert (await ask(client, {"allowed": (ip_network("10.0.0.0/8"),)})).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9180", 200),
        ("[::1]:9180", 200),
        ("localhost:9180", 200),
        ("LOCALHOST", 200),
        ("admin.example:9180", 200),
        ("attacker.example:9180", 403),
        ("127.0.0.1.attacker.example", 403),
        ("", 403),
    ],
)
async def test_a_name_that_leads_here_by_rebinding_is_refused(host: str, status: int) -> None:
    assert (await ask(guard={"hosts": frozenset({"admin.example"})}, Host=host)).status_code == status
    assert (await ask(Host=host)).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:9180", 200), ("https://attacker.example", 403), ("null", 403), ("http://127.0.0.1:8080", 403)],
)
async def test_pages_of_other_origins_are_refused(origin: str, status: int) -> None:
    response = await ask(Origin=origin)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers
