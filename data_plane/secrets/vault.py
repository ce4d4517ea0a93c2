"""Reads a secret of HashiCorp Vault's KV engine, first or second version.

The law: one request, a few seconds, no redirect (the token goes to nobody else); what is wrong is one line without the token.
Source: Vault's HTTP API, `GET /v1/{mount}/{path}` and `GET /v1/{mount}/data/{path}`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.schema.secret import VaultSpec

if TYPE_CHECKING:
    import httpx

# (manager, path) -> the secret's members. Raises VaultError.
Fetch = Callable[[VaultSpec, str], Awaitable[dict[str, Any]]]

TIMEOUT_SECONDS = 3.0
# Vault takes no secret that is larger.
MOST_BYTES = 1 << 20
# Requests at a time: ten thousand consumers may have a secret each.
MOST_AT_ONCE = 8


class VaultError(Exception):
    """One line for the operator."""


class Vault:
    """`authorities`: a file with the certificates of who vouches for a server, empty for the system's."""

    def __init__(self, authorities: str = "") -> None:
        self._authorities = authorities
        self._context: ssl.SSLContext | None = None
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def fetch(self, vault: VaultSpec, path: str) -> dict[str, Any]:
        """Raises VaultError."""
        # Half a second and some MiB that only those pay who have a Vault.
        import httpx

        if self._context is None:
            # It tells of every request.
            logging.getLogger("httpx").setLevel(logging.WARNING)
            self._context = ssl.create_default_context(cafile=self._authorities or None)
        try:
            async with (
                self._turns,
                asyncio.timeout(TIMEOUT_SECONDS),
                httpx.AsyncClient(verify=self._context, trust_env=False, timeout=TIMEOUT_SECONDS) as client,
                client.stream("GET", url_of(vault, path), headers=_headers(vault)) as response,
            ):
                return members(response.status_code, await _body(response))
        except TimeoutError:
            raise VaultError(f"{vault.uri} has not answered within {TIMEOUT_SECONDS:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            raise VaultError(f"{vault.uri} cannot be reached: {str(error) or type(error).__name__}") from None


def url_of(vault: VaultSpec, path: str) -> str:
    prefix = vault.prefix
    if vault.kv_version == "kv-v2":
        mount, slash, rest = prefix.partition("/")
        prefix = f"{mount}/data{slash}{rest}"
    return f"{vault.uri}/v1/{prefix}/{quote(path)}"


def _headers(vault: VaultSpec) -> dict[str, str]:
    headers = {"X-Vault-Token": vault.token, "X-Vault-Request": "true"}
    return headers if vault.namespace is None else headers | {"X-Vault-Namespace": vault.namespace}


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST_BYTES:
            raise VaultError(f"answered more than {MOST_BYTES} bytes")
    return bytes(body)


def members(status: int, body: bytes) -> dict[str, Any]:
    """Of the secret in an answer. Raises VaultError."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        document = None
    if status == 404:
        raise VaultError("there is no such secret (404)")
    if status != 200:
        errors = document.get("errors") if isinstance(document, dict) else None
        said = f": {', '.join(map(str, errors))[:200]}" if isinstance(errors, list) and errors else ""
        raise VaultError(f"answered {status}{said}")
    data = document.get("data") if isinstance(document, dict) else None
    if isinstance(data, dict) and isinstance(data.get("metadata"), dict) and "data" in data:
        data = data["data"]
    if not isinstance(data, dict):
        raise VaultError("the answer holds no secret")
    return data
