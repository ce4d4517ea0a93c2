"""`waspgate plugin push`: a module to a running gateway by its Admin API, and its workers watched until they have it.

The law: the gateway decides whether the module is a plugin; its answer, or its reason to refuse, is what is shown. That a
worker has it is what the worker says of itself: the digest that it runs, at a revision that is not older than the upload.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from control_plane.admin_key import FILE_NAME
from control_plane.cli.errors import CommandError
from control_plane.cli.settings import Address, Settings

# A module that the gateway has not seen is compiled and tried before the answer.
TIMEOUT_SECONDS = 240
# Workers say how they are once a second.
LOOK_SECONDS = 0.2
REVISION = "X-Waspgate-Revision"


class Admin:
    """The Admin API of a gateway. Every method raises CommandError. `revision` is that of the last write."""

    def __init__(self, settings: Settings) -> None:
        self.revision = 0
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
                self.revision = int(response.headers.get(REVISION) or 0)
        except urllib.error.HTTPError as error:
            raise CommandError(f"{url} answers {error.code}: {_reason(error.read())}") from error
        except (OSError, ValueError) as error:
            raise CommandError(f"cannot reach the Admin API at {url}: {getattr(error, 'reason', error)}") from error
        if not isinstance(answer, dict):
            raise CommandError(f"{url} answers something that is no JSON object")
        return answer


class Control:
    """The control API of one host's data plane."""

    def __init__(self, address: Address) -> None:
        self._base = f"http://{address}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def wait(self, name: str, sha256: str, revision: int, seconds: float) -> int:
        """How many workers have the plugin with this module. Raises CommandError when one cannot, or not in time."""
        deadline = time.monotonic() + seconds
        while True:
            late = self._late(name, sha256, revision)
            if isinstance(late, int):
                return late
            if time.monotonic() >= deadline:
                raise CommandError(f"uploaded, but not every worker has it after {seconds:g} s: {late}")
            time.sleep(LOOK_SECONDS)

    def _late(self, name: str, sha256: str, revision: int) -> str | int:
        """What there still is to wait for, or how many workers have it."""
        workers = self._get("/v1/workers")
        rows = self._get(f"/v1/plugins/wasm/{quote(name, safe='')}")
        running = {row["pid"]: row["sha256"] for row in (rows or {}).get("workers", [])}
        if not workers:
            return f"no worker has reported to {self._base} yet"
        for worker in workers:
            if worker["revision"] < revision:
                return f"worker {worker['worker']} is at revision {worker['revision']}, the upload is {revision}"
            problem = worker["problems"].get(f"/apisix/wasm_plugins/{name}")
            if problem:
                raise CommandError(f"uploaded, but worker {worker['worker']} keeps what it had: {problem}")
            if running.get(worker["pid"]) != sha256:
                return f"worker {worker['worker']} has {running.get(worker['pid']) or 'no such plugin'}"
        return len(workers)

    def _get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """None for what is not there."""
        try:
            with self._opener.open(f"{self._base}{path}", timeout=TIMEOUT_SECONDS) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise CommandError(f"{self._base}{path} answers {error.code}: {_reason(error.read())}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            advice = "name another with --control, or do not wait with --no-wait"
            raise CommandError(
                f"uploaded, but the control API at {self._base} cannot be reached ({reason}): {advice}"
            ) from error


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
