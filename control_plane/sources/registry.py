"""One repository of a registry: requests, and the access that they need.

The law: access is asked for when the registry wants it, first without credentials' being sent anywhere; credentials go to the
registry that they are for, or to the token service that it names, and never over plain HTTP beyond this host.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from control_plane.sources.download import Answer, Downloader
from control_plane.sources.failure import SourceError
from shared.schema.oci_reference import OciReference

# The answer of a token service.
MAX_TOKEN_BYTES = 256 * 1024
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Registry:
    """`credentials` is `user:password`; None when there are none."""

    def __init__(self, downloader: Downloader, reference: OciReference, credentials: str | None) -> None:
        self._downloader = downloader
        self._host = reference.host
        self._scheme = "http" if _is_loopback(reference.host) else "https"
        self._repository = reference.repository
        self._credentials = credentials
        self._authorization: str | None = None

    @classmethod
    async def open(cls, downloader: Downloader, reference: OciReference, config: Path | None) -> Self:
        """Raises SourceError."""
        credentials = None if config is None else await asyncio.to_thread(read_credentials, config, reference.host)
        return cls(downloader, reference, credentials)

    async def get(self, path: str, limit: int, accept: str = "*/*") -> bytes:
        """Raises SourceError."""
        url = f"{self._scheme}://{self._host}/v2/{self._repository}/{path}"
        answer = await self._asked(url, limit, accept)
        if answer.status == 401 and self._authorization is None:
            self._authorization = await self._authorized(answer.fields.get("www-authenticate", ""))
            answer = await self._asked(url, limit, accept)
        if answer.status == 200:
            return answer.body
        raise SourceError(_refused(answer.status, f"{self._repository}/{path}", with_credentials=self._credentials is not None))

    async def _asked(self, url: str, limit: int, accept: str) -> Answer:
        fields = {"accept": accept}
        if self._authorization is not None:
            fields["authorization"] = self._authorization
        return await self._downloader.get(url, limit, fields)

    async def _authorized(self, challenge: str) -> str:
        """What to say to this challenge."""
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic":
            if self._credentials is None:
                raise SourceError(f"the registry {self._host} wants credentials, and there are none for it")
            return _basic(self._credentials)
        if scheme == "bearer":
            return f"Bearer {await self._token(dict(_PARAMETER.findall(challenge)))}"
        raise SourceError(f"the registry {self._host} wants an access that is not known: {challenge[:100] or 'unnamed'}")

    async def _token(self, parameters: dict[str, str]) -> str:
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme != "https" and self._scheme == "https":
            raise SourceError(f"the registry {self._host} names a token service that is not https: {realm[:200] or 'none'}")
        scope = parameters.get("scope", f"repository:{self._repository}:pull")
        query = {"scope": scope} | ({"service": parameters["service"]} if "service" in parameters else {})
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        fields = {} if self._credentials is None else {"authorization": _basic(self._credentials)}
        answer = await self._downloader.get(url, MAX_TOKEN_BYTES, fields)
        token = _token_in(answer.body) if answer.status == 200 else None
        if token is None:
            raise SourceError(f"the token service of {self._host} gave no token (status {answer.status})")
        return token


def read_credentials(config: Path, host: str) -> str | None:
    """`user:password` for a registry, as `docker login` keeps them. Raises SourceError. Blocking."""
    try:
        document = json.loads(config.read_bytes())
    except OSError as error:
        raise SourceError(f"the registry credentials in {config} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(f"the registry credentials in {config} are not JSON") from error
    auths = document.get("auths") if isinstance(document, dict) else None
    for key, entry in (auths if isinstance(auths, dict) else {}).items():
        # Old clients wrote URLs.
        if key.removeprefix("https://").removeprefix("http://").partition("/")[0] == host and isinstance(entry, dict):
            return _credentials_in(entry, config)
    return None


def _credentials_in(entry: dict[str, Any], config: Path) -> str | None:
    user, password, packed = (entry.get(name) for name in ("username", "password", "auth"))
    if isinstance(user, str) and isinstance(password, str):
        return f"{user}:{password}"
    if not isinstance(packed, str) or not packed:
        return None
    try:
        return base64.b64decode(packed, validate=True).decode()
    except ValueError as error:
        raise SourceError(f"the registry credentials in {config} are damaged: auth is not base64") from error


def _basic(credentials: str) -> str:
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


def _token_in(body: bytes) -> str | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    names = ("token", "access_token")
    found = [document.get(name) for name in names] if isinstance(document, dict) else []
    # It becomes part of a field.
    return next((token for token in found if isinstance(token, str) and token.isascii() and token.isprintable()), None)


def _refused(status: int, what: str, *, with_credentials: bool) -> str:
    if status == 404:
        return f"the registry has no {what}"
    if status in (401, 403):
        return f"the registry refuses access to {what} {'with these' if with_credentials else 'without'} credentials"
    return f"the registry answered {what} with status {status}"


def _is_loopback(host: str) -> bool:
    """Of this machine: such a registry has no certificate, as with other clients."""
    name = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
