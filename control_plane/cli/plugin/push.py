"""`waspgate plugin push`: a module to a running gateway, by its Admin API.

The law: the gateway decides whether the module is a plugin; its answer, or its reason to refuse, is what is shown.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from control_plane.admin_key import FILE_NAME
from control_plane.cli.errors import CommandError
from control_plane.cli.settings import Settings

TIMEOUT_SECONDS = 60


class Admin:
    """The Admin API of a gateway. Every method raises CommandError."""

    def __init__(self, settings: Settings) -> None:
        self._base = f"http://{settings.admin}/apisix/admin"
        self._key = _key(settings)
        # Whatever proxy the environment names, it is not between this machine and its own gateway.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def upload(self, name: str, module: bytes) -> dict[str, Any]:
        return self._send("PUT", f"wasm_plugins/{quote(name, safe='')}/module", module, "application/wasm")

    def patch(self, name: str, change: dict[str, Any]) -> dict[str, Any]:
        return self._send("PATCH", f"wasm_plugins/{quote(name, safe='')}", json.dumps(change).encode(), "application/json")

    def _send(self, method: str, path: str, body: bytes, kind: str) -> dict[str, Any]:
        url = f"{self._base}/{path}"
        request = urllib.request.Request(url, body, {"X-API-KEY": self._key, "Content-Type": kind}, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise CommandError(f"{url} answers {error.code}: {_reason(error.read())}") from error
        except (OSError, ValueError) as error:
            raise CommandError(f"cannot reach the Admin API at {url}: {getattr(error, 'reason', error)}") from error
        if not isinstance(answer, dict):
            raise CommandError(f"{url} answers something that is no JSON object")
        return answer


def _key(settings: Settings) -> str:
    """The one that was given, or the one that a gateway on this machine has made for itself."""
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    path = settings.key_directory / FILE_NAME
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        missing = f"no admin key: give --admin-key or WASPGATE_ADMIN_KEY ({path}: {error.strerror})"
        raise CommandError(missing) from error


def _reason(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace").strip() or "without a reason"
    said = answer.get("error_msg") or answer.get("message") if isinstance(answer, dict) else None
    return str(said or answer)
