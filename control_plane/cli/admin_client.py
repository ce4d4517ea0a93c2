"""The Admin API of a gateway, as commands talk to it.

The law: whatever goes wrong is one line that says what was asked of whom; the key is the one that was given, or the one that a
gateway on this machine has made for itself.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control_plane.admin_key import FILE_NAME
from control_plane.cli.errors import CommandError
from control_plane.cli.key_file import read_key_file
from control_plane.cli.settings import Settings

# A module that the gateway has not seen is compiled and tried before the answer.
TIMEOUT_SECONDS = 240
# Names in lower case, as `Reply.headers` has them.
REVISION = "x-waspgate-revision"
APPLIED = "x-waspgate-applied"
JSON = "application/json"


class Refused(CommandError):
    """The gateway has said no; `body` is its answer, an empty object when that is no JSON object."""

    def __init__(self, url: str, status: int, data: bytes) -> None:
        super().__init__(f"{url} answers {status}: {_reason(data)}")
        self.status = status
        self.body = _object(data)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def revision(self) -> int:
        """Of a write, 0 of anything else."""
        return int(self.headers.get(REVISION) or 0)

    @property
    def workers(self) -> int | None:
        """How many serve a write that was waited for; None when nobody waited."""
        applied = self.headers.get(APPLIED)
        return None if applied is None else int(applied)

    @property
    def document(self) -> dict[str, Any]:
        return _object(self.data)


class AdminClient:
    """Every method raises CommandError, of which Refused is one."""

    def __init__(self, settings: Settings) -> None:
        self._base = f"{'http' if settings.admin_tls_cert is None else 'https'}://{settings.admin}/apisix/admin"
        self._key = _key(settings)
        # Whatever proxy the environment names, it is not between this machine and its own gateway.
        secured = urllib.request.HTTPSHandler(context=_tls(settings))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), secured)

    def get(self, path: str) -> dict[str, Any]:
        return self.send("GET", path).document

    def call(self, method: str, path: str, body: bytes, kind: str = JSON) -> Reply:
        return self.send(method, path, body, {"Content-Type": kind})

    def send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        url = f"{self._base}/{path}"
        known = {"X-API-KEY": self._key, "Content-Type": JSON, **(headers or {})}
        request = urllib.request.Request(url, body, known, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                received = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, received, response.read())
        except urllib.error.HTTPError as error:
            raise Refused(url, error.code, error.read()) from error
        except (OSError, ValueError) as error:
            raise CommandError(f"cannot reach the Admin API at {url}: {getattr(error, 'reason', error)}") from error


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Trusts the certificate of the settings itself, or who is in its file; shows it where clients have to show one."""
    if settings.admin_tls_cert is None:
        return None
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(settings.admin_tls_cert)
        if settings.admin_tls_key is not None and settings.admin_client_ca is not None:
            context.load_cert_chain(settings.admin_tls_cert, settings.admin_tls_key)
    except (OSError, ssl.SSLError) as error:
        raise CommandError(f"{settings.admin_tls_cert} (admin_tls_cert) cannot be used: {error}") from error
    return context


def _key(settings: Settings) -> str:
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    if settings.admin_key_file is not None:
        return read_key_file(settings.admin_key_file)
    path = settings.key_directory / FILE_NAME
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        missing = f"no admin key: give --admin-key or WASPGATE_ADMIN_KEY ({path}: {error.strerror})"
        raise CommandError(missing) from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _reason(data: bytes) -> str:
    answer = _object(data)
    said = answer.get("error_msg") or answer.get("message")
    return str(said or data.decode("utf-8", "replace").strip() or "without a reason")
