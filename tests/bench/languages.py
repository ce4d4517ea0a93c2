"""What the same plugin costs in each language: `python -m tests.bench.languages`, by hand.

The law: the greetings of `make plugins`, one VM each, on one thread; CPU time is that thread's, and memory includes the host's
part of a VM, about 2 MiB.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.vm import PluginContext, PluginVM, VmSettings
from tests.support.guest import Recorder, open_stream

BUILT = Path(__file__).resolve().parents[2] / ".build" / "plugins"
LANGUAGES = {"C": "c", "AssemblyScript": "assemblyscript", "Rust": "rust", "Go": "go"}
CONF = b'{"value": "hello", "reply_path": "/blocked"}'
REQUEST = b"GET /hello HTTP/1.1\r\nhost: example.com\r\nuser-agent: bench\r\naccept: */*\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nserver: upstream\r\ncontent-type: text/plain\r\n"
CONTEXTS, REQUESTS, ROUNDS = 2000, 4000, 9


def cpu(act: Callable[[], object]) -> float:
    """In milliseconds."""
    before = time.thread_time()
    act()
    return (time.thread_time() - before) * 1e3


def serve(root: PluginContext, requests: int) -> None:
    for _ in range(requests):
        stream = open_stream(root)
        stream.request_headers(REQUEST, eos=True)
        stream.response_headers(RESPONSE, eos=True)
        stream.finish()


def row(engine: Engine, language: str, module: bytes) -> str:
    before = time.perf_counter()
    guest = engine.compile(module)
    compiled = (time.perf_counter() - before) * 1e3
    vms = list[PluginVM]()
    starts = [cpu(lambda: vms.append(PluginVM(engine, guest, VmSettings("greeting"), Recorder()))) for _ in range(ROUNDS)]
    vm = vms[-1]
    started = vm.memory_bytes
    root = vm.create_root(CONF)
    rounds = [cpu(lambda: serve(root, REQUESTS)) * 1e3 / REQUESTS for _ in range(ROUNDS)]
    served = vm.memory_bytes
    contexts = cpu(lambda: [vm.create_root(CONF) for _ in range(CONTEXTS)])
    each = (vm.memory_bytes - served) / CONTEXTS
    cells = (
        language,
        f"{len(module) / 1024:.0f} KiB",
        f"{compiled:.0f} ms",
        f"{statistics.median(starts):.1f} ms",
        f"{started / 2**20:.1f} MiB",
        f"{contexts / CONTEXTS * 1e3:.0f} us",
        f"{each / 1024:.1f} KiB",
        f"{statistics.median(rounds):.1f} us",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    engine = Engine()
    head = ("", "module", "compiling", "start of a VM", "its memory", "a plugin context", "its memory", "a request")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [row(engine, name, (BUILT / f"{key}-greeting.wasm").read_bytes()) for name, key in LANGUAGES.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    engine.close()


if __name__ == "__main__":
    main()
