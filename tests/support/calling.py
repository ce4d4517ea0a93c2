"""A live gateway whose plugins call other servers, and what those plugins say.

The law: `said` is the transcript of all plugins, without the lines about starting; a test waits for the line that it needs.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from data_plane.callout.service import CalloutService
from data_plane.config.snapshot import Dialect, FailurePolicy, Limits, PluginBinding, WasmPlugin
from data_plane.plugins.runtime import WasmRuntime
from shared.proxy_wasm.engine import Engine
from tests.support.gateway import LiveGateway
from tests.support.guest import BUILT, console

SILENT = ("context_create", "vm_start", "configure")


class Said:
    """Stands for the runtime's logger."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def bind(self, **_: object) -> Said:
        return self

    def info(self, message: str, **fields: Any) -> None:  # noqa: ANN401 - as structlog has it
        if message.partition(" ")[0] not in SILENT:
            self.lines.append(message)

    debug = warning = error = critical = info

    def until(self, line: str, seconds: float = 5.0) -> list[str]:
        """Everything up to the first line that begins so."""
        deadline = time.monotonic() + seconds
        while not any(said.startswith(line) for said in self.lines):
            assert time.monotonic() < deadline, f"{line!r} was not said, but {self.lines}"
            time.sleep(0.002)
        return self.lines[: next(k for k, said in enumerate(self.lines) if said.startswith(line)) + 1]

    def results(self, command: str) -> list[str]:
        return [line.removeprefix(f"{command}: ") for line in self.lines if line.startswith(f"{command}: ")]


class Calling:
    """`bind` makes a plugin of a script (console.c) on the gateway's route."""

    def __init__(self, gateway: LiveGateway, tls: Callable[..., ssl.SSLContext] | None) -> None:
        self.gateway = gateway
        self.said = Said()
        self.modules: dict[str, bytes] = {}
        loop = gateway.gateway.loop
        # Compiled once for all tests: that takes longer than most of them.
        self.runtime = WasmRuntime(Engine(BUILT / "compiled"), self._fetch, loop)
        setattr(self.runtime, "logger", self.said)  # noqa: B010 - a test's stand-in
        options = {} if tls is None else {"tls": tls}
        self.service = gateway.ask(lambda: CalloutService(loop, gateway.gateway, **options))
        self.runtime.calls = self.service
        gateway.ask(lambda: setattr(gateway.gateway, "runtime", self.runtime))

    async def _fetch(self, digest: str) -> bytes | None:
        return self.modules.get(digest)

    def bind(
        self,
        *script: str,
        defines: tuple[str, ...] = (),
        policy: FailurePolicy = "fail_closed",
        dialect: Dialect = "proxy-wasm",
        limits: Limits | None = None,
        name: str = "console",
    ) -> PluginBinding:
        data = console(*defines)
        digest = sha256(data).hexdigest()
        self.modules[digest] = data
        plugin = WasmPlugin(name, 0, digest, dialect=dialect, failure_policy=policy, limits=limits or Limits())
        asyncio.run_coroutine_threadsafe(self.runtime.prepare(plugin), self.gateway.gateway.loop).result(30)
        return PluginBinding(plugin, "\n".join(script).encode(), "route/1", 0)

    def pending(self) -> int:
        """Calls that have not ended."""
        return self.gateway.ask(lambda: sum(len(slot.vm.calls) for slot in self.runtime._vms.values() if slot.vm is not None))

    def close(self) -> None:
        self.gateway.ask(self.runtime.close)
        asyncio.run_coroutine_threadsafe(self.service.close(), self.gateway.gateway.loop).result(10)


@contextmanager
def calling_gateway(gateway: LiveGateway, tls: Callable[..., ssl.SSLContext] | None = None) -> Iterator[Calling]:
    calling = Calling(gateway, tls)
    try:
        yield calling
    finally:
        calling.close()
