"""Every way in which the Admin API says no, and the one place that turns it into a response.

The law: a client gets JSON with the status and the shape that APISIX's clients know, and never a stack trace; what we
did not foresee is logged with its trace and answered as 500.

    AdminError            a refused request: status and body
      BadRequest          400 {"error_msg"}
      KeyNotFound         404 {"message": "Key not found"}
      Mismatch            412 {"error_msg", "expected", "current"}
    SchemaError           400, with the list of mistakes   (shared/schema)
    ModuleError           400                              (shared/proxy_wasm)
    NoKeysError           503                              (shared/secrets)
    StoreUnavailable      503                              (shared/store)
    TooLarge              413                              (shared/store)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import structlog
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.proxy_wasm.binary import ModuleError
from shared.schema.document import encode
from shared.schema.errors import SchemaError
from shared.secrets.keyring import NoKeysError
from shared.store.contract import StoreError, StoreUnavailable, TooLarge

JSON = "application/json"

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

E = TypeVar("E", bound=Exception)

log = structlog.get_logger()


class AdminError(Exception):
    """A request that is refused with this status and body."""

    def __init__(self, status: int, body: Mapping[str, object], headers: Mapping[str, str] = NO_HEADERS) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers


class BadRequest(AdminError):
    def __init__(self, text: str, **more: object) -> None:
        super().__init__(400, {"error_msg": text, **more})


class Mismatch(AdminError):
    """What the client says that it knows is not what is there."""

    def __init__(self, expected: str, current: int) -> None:
        found = f"its modifiedIndex is {current}" if current else "there is no such object"
        text = f"the object is not what the request expects: {expected}, but {found}"
        super().__init__(412, {"error_msg": text, "expected": expected, "current": current})


class KeyNotFound(AdminError):
    def __init__(self) -> None:
        super().__init__(404, {"message": "Key not found"})


def answer(status: int, body: object, revision: int | None = None) -> Response:
    """A JSON response; `revision` is that of the write which it confirms."""
    headers = {} if revision is None else {"X-Waspgate-Revision": str(revision)}
    return Response(encode(body) + b"\n", status, headers, JSON)


def _schema_error(error: SchemaError) -> AdminError:
    mistakes = [{"path": problem.path, "message": problem.text} for problem in error.problems]
    return BadRequest(str(error), errors=mistakes)


def _unavailable(error: StoreUnavailable) -> AdminError:
    return AdminError(503, {"error_msg": f"the configuration store is unavailable: {error}"})


def _no_keys(_error: NoKeysError) -> AdminError:
    text = "this has a secret, and there is no key to encrypt it with: set encryption_keys_file for all of the cluster"
    return AdminError(503, {"error_msg": text})


def _too_large(error: TooLarge) -> AdminError:
    return AdminError(413, {"error_msg": str(error)})


def _module_error(error: ModuleError) -> AdminError:
    return BadRequest(f"invalid module: {error}")


def refusal_of(error: Exception) -> AdminError:
    """Of what a write may be refused with."""
    if isinstance(error, SchemaError):
        return _schema_error(error)
    if isinstance(error, ModuleError):
        return _module_error(error)
    if isinstance(error, AdminError):
        return error
    raise error


def _http_error(error: HTTPException) -> AdminError:
    if error.status_code in {404, 405}:
        return AdminError(404, {"error_msg": "not found"})
    return AdminError(error.status_code, {"error_msg": str(error.detail)})


def _store_error(error: StoreError) -> AdminError:
    log.error("store error", error=str(error), kind=type(error).__name__)
    return AdminError(503, {"error_msg": "the configuration store failed"})


def install(app: FastAPI) -> None:
    """Register the table; the nearest class in an exception's ancestry wins."""
    _handle(app, AdminError, lambda error: error)
    _handle(app, SchemaError, _schema_error)
    _handle(app, ModuleError, _module_error)
    _handle(app, NoKeysError, _no_keys)
    _handle(app, StoreUnavailable, _unavailable)
    _handle(app, TooLarge, _too_large)
    _handle(app, StoreError, _store_error)
    _handle(app, HTTPException, _http_error)


def _handle(app: FastAPI, kind: type[E], render: Callable[[E], AdminError]) -> None:
    async def handler(_request: Request, error: Exception) -> Response:
        assert isinstance(error, kind)
        refusal = render(error)
        response = answer(refusal.status, refusal.body)
        response.headers.update(refusal.headers)
        return response

    app.add_exception_handler(kind, handler)


class Boundary:
    """The outermost layer: adds the headers of every response, and answers 500 for what nothing else caught."""

    def __init__(self, app: ASGIApp, server: str) -> None:
        self._app = app
        self._headers = [(b"server", server.encode()), (b"x-api-version", b"v3")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("client left before its request was complete", path=scope["path"])
        except Exception:
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            if not started:
                response = answer(500, {"error_msg": "internal error, see the log of the control plane"})
                await response(scope, receive, send_with_headers)
