"""file-logger: entries as the lines of a file.

The law: workers write to one file, each line in one piece of one write; the file is opened anew for each, so that one that was
moved away, as logrotate does, is left alone and the next line begins a new one. The disk is waited for beside the requests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from shared.plugin.alternatives import compile_alternatives
from shared.plugin.batch import BatchLimits
from shared.plugin.builtin.logger import Expression, Logger, LoggerConfig, LoggerMetadata
from shared.plugin.host import Host
from shared.plugin.request import Request, Response
from shared.schema.common import Maybe

# Entries may hold what a client has sent in confidence.
_MODE = 0o640
# Of one write: a disk that stalls holds one thread, and so much memory.
_WRITE_BYTES = 1024 * 1024

FilePath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class FileLoggerConfig(LoggerConfig):
    """`path` may stand in the metadata; `match` says which requests are told of."""

    path: Maybe[FilePath] = None
    match: Maybe[Annotated[Expression, Field(max_length=20)]] = None

    def limits(self, max_pending: int) -> BatchLimits:
        return BatchLimits(max_size=max_pending, inactive_timeout=0, max_pending=max_pending, max_bytes=_WRITE_BYTES)


class FileLoggerMetadata(LoggerMetadata):
    path: Maybe[FilePath] = None


class FileLogger(Logger[FileLoggerConfig]):
    name = "file-logger"
    priority = 399
    Config = FileLoggerConfig
    Metadata: ClassVar[Any] = FileLoggerMetadata

    def __init__(self, config: FileLoggerConfig, metadata: Any = None) -> None:  # noqa: ANN401 - FileLoggerMetadata
        super().__init__(config, metadata)
        self.path = config.path or (None if metadata is None else metadata.path)
        self._tells = None if config.match is None else compile_alternatives(config.match)

    def attach(self, host: Host) -> None:
        super().attach(host)
        if self.path is None:
            host.failed(self.name, ValueError("there is no path, neither in the configuration nor in the metadata"))

    def log(self, request: Request, response: Response | None) -> None:
        if self.path is None:
            return
        if self._tells is not None:
            variables = request.variables
            variables.status = None if response is None else response.status
            if not self._tells(variables):
                return
        super().log(request, response)

    async def send(self, entries: Sequence[bytes]) -> None:
        assert self.path is not None
        await asyncio.to_thread(_append, self.path, b"".join(entry + b"\n" for entry in entries))


def _append(path: str, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        while data:
            data = data[os.write(file, data) :]
    finally:
        os.close(file)
