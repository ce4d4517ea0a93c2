"""The audit log: who changed what, from where, and how it was before.

The law: every request that may write is one line, refused ones too; a secret is never in it, only that it changed. Writing it
never holds up a request: a thread does, and what it cannot write (a full disk) is counted and reported in the process's log.

A line is one JSON object:

    time        when it was answered, RFC 3339
    key         the name of the admin key, null when none was good
    from        the client's address
    method, path, query, status
    revision    of the store, null when nothing was written
    left_out    of requests without a good key, if there were too many in a minute: how many since the line before
    changes     [{"resource": "/apisix/routes/1", "changes": [{"path", "before", "after"}]}]
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from hashlib import sha256
from hmac import HMAC
from pathlib import Path
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.admin.difference import differences
from shared.keys import Kind, resource_key
from shared.schema.resources import TIMESTAMPS
from shared.secrets.places import MASK, map_secrets

log = structlog.get_logger()

READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Lines that wait for the thread.
MOST_WAITING = 10_000
# A whole configuration written at once is one request: what it changed beyond this is only counted.
MOST_CHANGES = 1000
# Requests without a good key that are told in a minute: nobody shall fill the disk who may not even come in.
MOST_NAMELESS = 60
MINUTE = 60.0
# How long the end of the process waits for the last lines, in seconds.
LAST_SECONDS = 2.0

Write = Callable[[dict[str, object]], None]
_changes: ContextVar[list[dict[str, object]] | None] = ContextVar("audited changes", default=None)
# Tells two secrets apart without showing them.
_MARK = "\0secret "
_mark_key = secrets.token_bytes(32)


def note(kind: Kind, object_id: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    """Says that the request that is being served has changed an object; None: it was not there, or is not any more."""
    changes = _changes.get()
    if changes is None:
        return
    if len(changes) >= MOST_CHANGES:
        changes.append({})
        return
    found = differences(_marked(kind, object_id, before), _marked(kind, object_id, after))
    documents = [_unmarked(difference.document()) for difference in found]
    changes.append({"resource": resource_key(kind, object_id), "changes": documents})


def _marked(kind: Kind, object_id: str, document: dict[str, Any] | None) -> dict[str, Any] | None:
    if document is None:
        return None
    plain = {name: value for name, value in document.items() if name not in TIMESTAMPS}
    return map_secrets(kind, object_id, plain, lambda text, _: _MARK + HMAC(_mark_key, text.encode(), sha256).hexdigest())


def _unmarked(value: Any) -> Any:  # noqa: ANN401 - JSON
    match value:
        case str():
            return MASK if value.startswith(_MARK) else value
        case dict():
            return {name: _unmarked(inner) for name, inner in value.items()}
        case list():
            return [_unmarked(inner) for inner in value]
        case _:
            return value


class Audit:
    """Around everything that may refuse a request. `clock` in seconds."""

    def __init__(self, app: ASGIApp, write: Write, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._write = write
        self._clock = clock
        self._minute = -MINUTE
        self._nameless = 0
        self._left_out = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        # Whoever is inside puts its own words into it.
        scope.setdefault("state", {})
        changes: list[dict[str, object]] = []
        token = _changes.set(changes)
        status, revision = 500, None

        async def watched(message: Message) -> None:
            nonlocal status, revision
            if message["type"] == "http.response.start":
                status = message["status"]
                revision = next((int(value) for name, value in message["headers"] if name == b"x-waspgate-revision"), None)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            _changes.reset(token)
            self._told(_line(scope, status, revision, changes))

    def _told(self, line: dict[str, object]) -> None:
        if line["key"] is None:
            now = self._clock()
            if now - self._minute >= MINUTE:
                self._minute, self._nameless = now, 0
            self._nameless += 1
            if self._nameless > MOST_NAMELESS:
                self._left_out += 1
                return
        if self._left_out:
            line["left_out"], self._left_out = self._left_out, 0
        self._write(line)


def _line(scope: Scope, status: int, revision: int | None, changes: list[dict[str, object]]) -> dict[str, object]:
    line: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "key": scope["state"].get("admin_key"),
        "from": scope["state"].get("client", (scope.get("client") or ("", 0))[0]),
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "status": status,
        "revision": revision,
        "changes": changes[:MOST_CHANGES],
    }
    return line if len(changes) <= MOST_CHANGES else line | {"more_changes": len(changes) - MOST_CHANGES}


def to_log(line: dict[str, object]) -> None:
    """Without a file: the log of the process has the lines."""
    log.info("admin request", **{name: value for name, value in line.items() if name != "time"})


class AuditFile:
    """JSON lines at the end of a file, which is opened anew for every batch, so that it may be rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.Queue[dict[str, object] | None] = queue.Queue(MOST_WAITING)
        self._lost = 0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)
        self._thread.start()

    def write(self, line: dict[str, object]) -> None:
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Waits for the last lines, for a moment."""
        try:
            self._waiting.put(None, timeout=LAST_SECONDS)
        except queue.Full:
            return
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        ended = False
        while not ended:
            lines = [self._waiting.get()]
            while len(lines) < MOST_WAITING and not self._waiting.empty():
                lines.append(self._waiting.get_nowait())
            ended = None in lines
            self._append([line for line in lines if line is not None])

    def _append(self, lines: list[dict[str, object]]) -> None:
        if not lines:
            return
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
        try:
            with open(self._path, "a", encoding="utf-8", opener=_private) as file:
                file.write(text)
        except OSError as error:
            self._lost += len(lines)
            if not self._failing:
                log.error("the audit log cannot be written", path=str(self._path), reason=error.strerror)
            self._failing = True
            return
        if self._failing or self._lost:
            log.warning("the audit log is written again", path=str(self._path), lost=self._lost)
        self._failing, self._lost = False, 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
