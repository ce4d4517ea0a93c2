"""A traced VM does what an untraced one does, and tells of every callback and host call."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.trace.text import lines
from shared.proxy_wasm.trace.transcript import Transcript
from shared.proxy_wasm.vm import PluginVM, VmSettings
from shared.proxy_wasm.watchdog import Watchdog
from tests.support.guest import Recorder, assemble, compiled, console, open_stream

GET = b"GET /p HTTP/1.1\r\nHost: h\r\n"
OK = b"HTTP/1.1 200 OK\r\nserver: up\r\n"
SCRIPT = "request_headers replace 0 x-a 1\nresponse_headers remove 2 server"


def run(vm: PluginVM) -> list[object]:
    stream = open_stream(vm.create_root(SCRIPT.encode()))
    answers: list[object] = [stream.request_headers(GET, eos=True), stream.response_headers(OK, eos=True)]
    stream.finish()
    # Addresses of objects aside, an outcome is its data.
    return [getattr(answer, "data", answer) for answer in answers]


@pytest.mark.parametrize("defines", [(), ("ABI_0_1_0",)], ids=["0.2.1", "0.1.0"])
def test_tracing_changes_nothing(engine: Engine, defines: tuple[str, ...]) -> None:
    module, transcript = compiled(engine, console(*defines)), Transcript()
    plain, traced = Recorder(), Recorder()
    answers = [
        run(PluginVM(engine, module, VmSettings("plugin"), plain)),
        run(PluginVM(engine, module, VmSettings("plugin"), traced, None, transcript)),
    ]
    assert answers[0] == answers[1]
    assert plain.logs == traced.logs
    told = [line for line in lines(transcript.take(), times=False) if "proxy_log" not in line and "proxy_get" not in line]
    assert 'proxy_replace_header_map_value(map=REQUEST_HEADERS, key="x-a", value="1") -> OK' in [line.strip() for line in told]
    outer = [line.partition("(")[0].removeprefix("proxy_on_") for line in told if line[0] != " "]
    assert outer[:4] == ["context_create", "vm_start", "configure", "context_create"]
    assert outer[-3:] == ["done", "log", "delete"]
    assert {"request_headers", "response_headers"} <= set(outer)


def test_a_trap_goes_through_a_tap_as_it_is(engine: Engine) -> None:
    guest = '(func (export "proxy_on_tick") (param i32) (drop (call $done)) unreachable)'
    imports = '(import "env" "proxy_done" (func $done (result i32)))'
    transcript = Transcript()
    module = engine.compile(assemble(guest, imports=imports))
    vm = PluginVM(engine, module, VmSettings("plugin"), Recorder(), None, transcript)
    root = vm.create_root(b"")
    with pytest.raises(VmFailed, match="unreachable") as failed:
        root.tick()
    assert failed.value.code == "unreachable"
    assert list(lines(transcript.take(), times=False)) == [
        "proxy_on_tick(context=1)",
        "    proxy_done() -> NOT_FOUND",
        "    -> did not return",
    ]


def test_recording_is_not_the_plugins_cpu_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    excused = list[float]()
    monkeypatch.setattr(Watchdog, "excuse", lambda self, seconds: excused.append(seconds))
    vm = PluginVM(engine, compiled(engine, console()), VmSettings("plugin"), Recorder(), None, Transcript())
    before = len(excused)
    vm.create_root(b"").tick()
    assert len(excused) > before
    assert all(seconds > 0 for seconds in excused)
