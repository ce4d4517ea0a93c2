"""Traces of single requests, kept for whoever asked for them: a ring in the host's memory that all workers write to.

The law: so many traces and so many bytes of each, the oldest first to go. A trace lies in the directory of the host's state,
which belongs to one user; its id is a random number that nobody guesses, because whoever knows it may read it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.proxy_wasm.state.directory import TRACE_PREFIX

# On the control API, with the id behind it.
TRACES_PATH = "/v1/traces/"

MOST_TRACES = 64
MOST_BYTES = 1 << 20

_ID = re.compile("[0-9a-f]{32}")


def new_id() -> str:
    return secrets.token_hex(16)


class TraceStore:
    """`directory` is that of the host's state."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, trace_id: str, document: dict[str, Any]) -> None:
        """Raises OSError. Of a document that is too large the transcript is cut at its end."""
        data = _bounded(document)
        path = self._path(trace_id)
        written = path.with_suffix(".new")
        written.write_bytes(data)
        written.chmod(0o600)
        written.replace(path)
        self._prune()

    def get(self, trace_id: str) -> dict[str, Any] | None:
        if not _ID.fullmatch(trace_id):
            return None
        try:
            found: dict[str, Any] = json.loads(self._path(trace_id).read_bytes())
        except OSError:
            return None
        return found

    def _path(self, trace_id: str) -> Path:
        return self._directory / f"{TRACE_PREFIX}{trace_id}.json"

    def _by_age(self) -> list[tuple[int, Path]]:
        found = []
        for path in self._directory.glob(f"{TRACE_PREFIX}*.json"):
            # Another worker may have pruned it meanwhile.
            with suppress(OSError):
                found.append((path.stat().st_mtime_ns, path))
        return sorted(found, reverse=True)

    def _prune(self) -> None:
        for _, path in self._by_age()[MOST_TRACES:]:
            with suppress(OSError):
                os.unlink(path)


def _bounded(document: dict[str, Any]) -> bytes:
    """Halved until it fits: a trace this long is cut once or twice."""
    transcript, lines = document["transcript"], document["text"]
    kept, shown = len(transcript), len(lines)
    while True:
        dropped = document["entries_dropped"] + len(transcript) - kept
        cut = {"transcript": transcript[:kept], "text": lines[:shown], "entries_dropped": dropped}
        data = json.dumps(document | cut).encode()
        if len(data) <= MOST_BYTES or not kept:
            return data
        kept, shown = kept // 2, shown // 2
