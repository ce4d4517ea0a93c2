"""Where a case plays: a worker's runtime with the console plugin in one version of the ABI, and an exchange around it.

The law: a transcript has every line that the plugin logged and everything that the chain let go on, in order; `answers` keeps
what the plugin's commands were answered. A case says what it expects and nothing of how.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from data_plane.config.snapshot import Dialect, FailurePolicy, Limits, PluginBinding
from shared.proxy_wasm.abi import AbiVersion
from tests.support.chain import Case, Journal, KeptEngine, PluginJournal, Worker, bind
from tests.support.guest import console

REQUEST = b"POST /p?q=1 HTTP/1.1\r\nHost: example.com\r\nX-One: 1\r\nx-two: a\r\nX-Two: b\r\nempty:\r\n"
RESPONSE = b"HTTP/1.1 200 Fine\r\nServer: up\r\nx-one: 1\r\n"
DEFINES = {AbiVersion.V0_1_0: ("ABI_0_1_0",), AbiVersion.V0_2_0: ("ABI_0_2_0",), AbiVersion.V0_2_1: ()}

_ANSWER = re.compile(r"(?:\w+ )?\w+: ")


class Whole(Journal):
    """A journal that leaves nothing out; the only plugin of a case is called `p` and not named."""

    def bind(self, plugin: str) -> WholePlugin:
        return WholePlugin(self, plugin)


class WholePlugin(PluginJournal):
    def info(self, message: str, **_: object) -> None:
        self.journal.lines.append(message if self.plugin == "p" else f"{self.plugin} {message}")

    debug = warning = critical = info


class Stage:
    def __init__(self, engine: KeptEngine, version: AbiVersion) -> None:
        self.engine = engine
        self.version = version
        self.dialect: Dialect = "proxy-wasm"
        self.worker = Worker(engine)
        self.journal = Whole()
        self.worker.journal = self.worker.runtime.logger = self.journal
        self._closers: list[Callable[[], None]] = []

    def close(self) -> None:
        for vm_slot in self.worker.runtime._vms.values():
            if vm_slot.vm is not None:
                vm_slot.vm.close()

    # --- plugins and exchanges

    def bind(
        self,
        name: str,
        *script: str,
        policy: FailurePolicy = "fail_closed",
        limits: Limits | None = None,
        module: bytes | None = None,
    ) -> PluginBinding:
        data = console(*DEFINES[self.version]) if module is None else module
        plugin = self.worker.plugin(name, policy=policy, limits=limits, module=data)
        return bind(replace(plugin, dialect=self.dialect), *script)

    def open(self, *script: str, policy: FailurePolicy = "fail_closed", limits: Limits | None = None) -> Case:
        """A request through one plugin."""
        return self.worker.open(self.bind("p", *script, policy=policy, limits=limits))

    def chain(self, **scripts: tuple[str, ...] | str) -> Case:
        """A request through several, in this order."""
        bindings = (self.bind(name, *((script,) if isinstance(script, str) else script)) for name, script in scripts.items())
        return self.worker.open(*bindings)

    def play(self, *script: str) -> list[str]:
        """The transcript of a whole exchange with bodies."""
        case = self.open(*script)
        lines = case.request(b"hello", b"world", head=REQUEST)
        self.worker.loop.advance(1)
        lines += self.journal.take()
        lines += case.response(b"hello", b"world", head=RESPONSE)
        return lines + case.finish()

    def answers(self, *script: str) -> list[str]:
        return answers(self.play(*script))

    # --- expectations

    def expect(self, actual: object, expected: object) -> None:
        assert actual == expected, f"{actual!r}, expected {expected!r}"

    @property
    def short(self) -> bool:
        """Header callbacks have no end_of_stream."""
        return self.version is AbiVersion.V0_1_0


def answers(lines: list[str]) -> list[str]:
    """What commands were answered, without their names."""
    return [line[match.end() :] for line in lines if (match := _ANSWER.match(line))]


def without_answers(lines: list[str]) -> list[str]:
    return [line for line in lines if not _ANSWER.match(line)]
