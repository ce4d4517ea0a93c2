"""Plugins for tests: built from C by zig and kept by digest, or assembled from text; and a recorder of what they say and ask.

The law: a test says what the plugin does (the script of the console guest, a C snippet, or text where one odd behaviour is
meant) and reads a transcript of callbacks, results and logs.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import wasmtime

from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.callouts import Callouts
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.instance import GuestModule
from shared.proxy_wasm.limits import Limits
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import HttpContext, PluginContext, PluginVM, VmSettings

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / ".build" / "guests"
SOURCES = Path(__file__).parent / "guest_sources"
# Where a guest's headers are.
INCLUDED = (ROOT / "plugins" / "c", SOURCES)

FLAGS = ("-target", "wasm32-freestanding", "-std=c11", "-O1", "-mbulk-memory", "-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all")

# What every text guest needs: a marker, a memory and an allocator that gives everything the same place.
TEXT_FRAME = """
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
"""


def build(source: str, *, defines: Sequence[str] = (), flags: Sequence[str] = ()) -> bytes:
    """A guest from C, with the headers of `plugins/c`. What was built once is read from .build/guests."""
    headers = [path.read_text() for folder in INCLUDED for path in sorted(folder.glob("*.h"))]
    digest = hashlib.sha256("\0".join([source, *headers, *FLAGS, *defines, *flags]).encode()).hexdigest()
    output = BUILT / f"{digest}.wasm"
    if not output.is_file():
        BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as scratch:
            unit, compiled = Path(scratch) / "guest.c", Path(scratch) / "guest.wasm"
            unit.write_text(source)
            command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *(f"-I{folder}" for folder in INCLUDED)]
            command += [*(f"-D{name}" for name in defines), *flags]
            environment = {"ZIG_GLOBAL_CACHE_DIR": str(ROOT / ".build" / "zig"), **os.environ}
            environment.setdefault("ZIG_LOCAL_CACHE_DIR", environment["ZIG_GLOBAL_CACHE_DIR"])
            subprocess.run([*command, "-o", str(compiled), str(unit)], check=True, env=environment)
            compiled.replace(output)
    return output.read_bytes()


@cache
def console(*defines: str) -> bytes:
    """The plugin that does what its configuration says; guest_sources/console.c has the commands."""
    return build((SOURCES / "console.c").read_text(), defines=defines)


@cache
def compiled(engine: Engine, module: bytes) -> GuestModule:
    return engine.compile(module)


def assemble(body: str, frame: str = TEXT_FRAME, imports: str = "") -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {imports} {frame} {body})"))


class Facts:
    """A request that little is known about, and the owner of its streams."""

    client_address = ("192.0.2.7", 50000)
    local_address = ("::1", 9080)
    connection_id = 17
    protocol = "HTTP/1.1"
    upstream_address: tuple[str, int] | None = None
    start_time_ns = 1_700_000_000_000_000_000
    request_bytes = 4
    response_bytes = 5
    route_name = "route one"

    @property
    def facts(self) -> Facts:
        return self

    def __init__(self) -> None:
        self.properties: dict[bytes, bytes] = {}

    def plugin_properties(self) -> dict[bytes, bytes]:
        return self.properties


class Recorder:
    """A VM's observer: `lines` are the logs of level info, `logs` all of them; the rest is what plugins asked for."""

    def __init__(self) -> None:
        self.logs: list[tuple[LogLevel, int, str]] = []
        self.told: list[tuple[int, Outcome]] = []
        self.periods: list[tuple[int, int]] = []
        self.ended: list[int] = []

    def log(self, level: LogLevel, context_id: int, message: str) -> None:
        self.logs.append((level, context_id, message))

    def effects(self, stream: HttpContext, outcome: Outcome) -> None:
        self.told.append((stream.id, outcome))

    def set_tick_period(self, plugin_context: PluginContext, milliseconds: int) -> None:
        self.periods.append((plugin_context.id, milliseconds))

    def done(self, plugin_context: PluginContext) -> None:
        self.ended.append(plugin_context.id)

    def take(self) -> list[str]:
        """The lines since the last call."""
        lines = [message for level, _, message in self.logs if level is LogLevel.INFO]
        self.logs.clear()
        return lines


class Guest:
    """A VM and its recorder."""

    def __init__(
        self, engine: Engine, module: bytes, settings: VmSettings | None = None, callouts: Callouts | None = None
    ) -> None:
        self.recorder = Recorder()
        settings = settings or VmSettings("plugin")
        self.vm = PluginVM(engine, compiled(engine, module), settings, self.recorder, callouts=callouts)

    def root(self, *script: str) -> PluginContext:
        """A PluginContext with this script; its own transcript is forgotten."""
        root = self.vm.create_root("\n".join(script).encode())
        self.recorder.logs.clear()
        return root

    def stream(self, *script: str) -> HttpContext:
        return open_stream(self.root(*script))

    def take(self) -> list[str]:
        return self.recorder.take()


def open_stream(root: PluginContext, facts: Facts | None = None) -> HttpContext:
    return root.open(facts or Facts())


def limits(**changes: int) -> VmSettings:
    return VmSettings("plugin", Limits(**changes))
