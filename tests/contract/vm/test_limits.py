"""What one VM may use, and that a failing one harms no other. Timing fails no test: bounds are there for hangs only."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from shared.proxy_wasm.abi import Direction
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import EngineError, VmFailed
from shared.proxy_wasm.limits import Limits
from shared.proxy_wasm.vm import VmSettings
from tests.support.guest import Facts, Guest, assemble, console, limits, open_stream

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
# Generous: what is expected is 20 to 30 ms.
HANG_SECONDS = 20

QUICK = Limits(callback_cpu_ms=5, start_cpu_ms=20)
STREAM_CALLBACKS = ("request_headers", "request_body", "response_headers", "response_body", "done", "log", "delete")


@pytest.fixture
def hang_guard() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < HANG_SECONDS


def live(guest: Guest, *script: str) -> None:
    """The whole life of a PluginContext and of a stream."""
    root = guest.vm.create_root("\n".join(script).encode())
    root.tick()
    stream = open_stream(root)
    stream.request_headers(GET, eos=False)
    stream.body(Direction.REQUEST, b"abc", eos=True)
    stream.response_headers(OK, eos=False)
    stream.body(Direction.RESPONSE, b"abc", eos=True)
    stream.finish()
    root.delete()


@pytest.mark.usefixtures("hang_guard")
@pytest.mark.parametrize(
    ("callback", "command"),
    [
        *((callback, "loop") for callback in ("context_create", "vm_start", "configure", "tick", *STREAM_CALLBACKS)),
        *((callback, f"{what}_for_ever") for callback in ("configure", "log") for what in ("log", "ask")),
    ],
)
def test_an_endless_loop_is_cut_in_every_callback(engine: Engine, callback: str, command: str) -> None:
    guest = Guest(engine, console(), VmSettings("plugin", QUICK))
    with pytest.raises(VmFailed) as failure:
        live(guest, f"{callback} {command}")
    assert failure.value.code == "interrupt"
    assert "interrupt" in str(failure.value)
    assert guest.vm.failed is failure.value


@pytest.mark.usefixtures("hang_guard")
@pytest.mark.parametrize("export", ["_initialize", "_start", "start"])
def test_an_endless_start_is_cut(engine: Engine, export: str) -> None:
    loop = "(loop $again (br $again))"
    body = f"(func $f {loop}) (start $f)" if export == "start" else f'(func (export "{export}") {loop})'
    with pytest.raises(VmFailed) as failure:
        Guest(engine, assemble(body), VmSettings("plugin", QUICK))
    assert failure.value.code == "interrupt"


@pytest.mark.usefixtures("hang_guard")
def test_the_limit_is_cpu_time(engine: Engine) -> None:
    """A callback that used its time up is cut although the calls before it were many; each call has its own."""
    guest = Guest(engine, console("NO_BODIES"), VmSettings("plugin", Limits(callback_cpu_ms=30)))
    root = guest.root()
    began = time.thread_time()
    while time.thread_time() - began < 0.1:
        root.tick()
    guest.vm.close()


def test_a_collection_of_python_s_garbage_is_not_the_plugin_s_time(engine: Engine) -> None:
    """It happens in whatever host function is called when it is due; here in one that reads a property."""

    class Littered(Facts):
        @property
        def route_name(self) -> str:  # type: ignore[override]
            gc.collect()
            return "collected"

    litter = [[number] for number in range(300_000)]
    guest = Guest(engine, console(), VmSettings("plugin", QUICK))
    stream = open_stream(guest.root(*["request_headers property route_name"] * 5), Littered())
    stream.request_headers(GET, eos=True)
    assert guest.take()[2:] == ["property: OK collected"] * 5
    guest.vm.close()
    del litter


@pytest.mark.usefixtures("hang_guard")
def test_an_interruption_harms_no_other_vm(engine: Engine) -> None:
    """Also one that is called right afterwards, whose deadline has passed with the failed one's."""
    other = Guest(engine, console())
    stream = other.stream("request_headers add 0 a b", "response_headers add 2 c d")
    for _ in range(3):
        bad = Guest(engine, console(), VmSettings("plugin", QUICK))
        with pytest.raises(VmFailed):
            live(bad, "request_headers loop")
        assert stream.request_headers(GET, eos=True) is not None
        bad = Guest(engine, console(), VmSettings("plugin", QUICK))
        with pytest.raises(VmFailed):
            live(bad, "request_headers loop")
        started = Guest(engine, console())
        live(started)
        started.vm.close()
        assert stream.response_headers(OK, eos=True) is not None
    other.vm.close()


def test_a_failed_vm_answers_nothing_else(engine: Engine) -> None:
    guest = Guest(engine, console())
    root = guest.root("request_headers#1 log 2 a", "response_headers trap")
    first, second = open_stream(root), open_stream(root)
    first.request_headers(GET, eos=True)
    second.request_headers(GET, eos=True)
    with pytest.raises(VmFailed) as failure:
        first.response_headers(OK, eos=True)
    for call in (
        lambda: second.response_headers(OK, eos=True),
        lambda: second.body(Direction.REQUEST, b"", eos=True),
        root.tick,
        root.delete,
        lambda: guest.vm.create_root(b""),
    ):
        with pytest.raises(VmFailed) as again:
            call()
        assert again.value is failure.value
    first.finish()
    second.finish()
    assert (guest.vm.streams, root.streams) == ({}, 0)
    guest.vm.close()


@pytest.mark.usefixtures("hang_guard")
def test_deep_recursion_is_a_trap(engine: Engine) -> None:
    guest = Guest(engine, console())
    with pytest.raises(VmFailed) as failure:
        live(guest, "request_headers recurse")
    assert failure.value.code == "stack_overflow"


def test_memory_grows_to_the_limit_only(engine: Engine) -> None:
    guest = Guest(engine, console(), limits(memory_bytes=16 << 20))
    stream = guest.stream("request_headers allocate_for_ever", "response_headers add 2 a b")
    stream.request_headers(GET, eos=True)
    pages = int(guest.take()[-1].removeprefix("allocate_for_ever: "))
    assert 200 <= pages <= 256
    assert stream.response_headers(OK, eos=True) is not None, "it lives on, as far as it can without memory"
    guest.vm.close()


def test_a_module_that_wants_too_much_memory_at_once_is_refused(engine: Engine) -> None:
    frame = '(memory (export "memory") 300) (func (export "proxy_abi_version_0_2_1"))'
    module = assemble('(func (export "malloc") (param i32) (result i32) (i32.const 8))', frame)
    with pytest.raises(EngineError, match="memory"):
        Guest(engine, module, limits(memory_bytes=16 << 20))
    Guest(engine, module, limits(memory_bytes=32 << 20)).vm.close()


def test_tables_do_not_grow_without_end(engine: Engine) -> None:
    module = assemble(
        "(table $t 1 funcref)"
        '(func (export "proxy_on_configure") (param i32 i32) (result i32)'
        " (loop $more (br_if $more (i32.ge_s (table.grow $t (ref.null func) (i32.const 10000)) (i32.const 0))))"
        " (i32.lt_u (table.size $t) (i32.const 300000)))"
    )
    Guest(engine, module).root()


def test_a_module_with_too_many_or_too_large_tables_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="table"):
        Guest(engine, assemble("(table 300000 funcref)"))
    with pytest.raises(EngineError, match="table"):
        Guest(engine, assemble("(table 1 funcref)" * 9))


def test_a_body_of_logs_does_not_fill_the_memory(engine: Engine) -> None:
    """A message longer than the ring is cut."""
    guest = Guest(engine, assemble(LONG_LOG, imports='(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))'))
    guest.stream().request_headers(GET, eos=True)
    (message,) = guest.take()
    assert 60_000 < len(message) <= 65_536
    guest.vm.close()


LONG_LOG = """
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 0) (i32.const 65536)))
"""
