"""How a VM comes up: version markers, the order of what runs, and what becomes of a plugin that cannot or will not start."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.abi import AbiVersion, LogLevel
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import PluginRefused, VmFailed
from shared.proxy_wasm.inspect import MissingAbi, UnknownAbi
from shared.proxy_wasm.vm import PluginVM, VmSettings
from tests.support.guest import Guest, Recorder, assemble, console, limits, open_stream

LOG = '(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))'
LETTERS = '(data (i32.const 0) "abcdefgh")'
UNMARKED = '(memory (export "memory") 1) (func (export "malloc") (param i32) (result i32) (i32.const 8))'


def say(letter: str) -> str:
    return f"(drop (call $log (i32.const 2) (i32.const {ord(letter) - ord('a')}) (i32.const 1)))"


def talker(*functions: str) -> bytes:
    return assemble(LETTERS + "".join(functions), imports=LOG)


INITIALIZE = f'(func (export "_initialize") {say("a")})'
MAIN = f'(func (export "main") (param i32 i32) (result i32) {say("b")} (i32.const 1))'
MAIN_VOID = f'(func (export "__main_void") (result i32) {say("e")} (i32.const 1))'
START = f'(func (export "_start") {say("c")})'
SECTION = f"(func $section {say('d')}) (start $section)"


@pytest.mark.parametrize(
    ("functions", "order"),
    [
        ((INITIALIZE, MAIN), "ab"),
        ((INITIALIZE, MAIN, START), "ab"),
        ((INITIALIZE, MAIN, MAIN_VOID), "ab"),
        ((INITIALIZE, MAIN_VOID), "ae"),
        ((INITIALIZE,), "a"),
        ((START,), "c"),
        ((START, MAIN), "c"),
        ((MAIN,), ""),
        ((MAIN_VOID, START), "c"),
        ((), ""),
        ((SECTION,), "d"),
        ((SECTION, INITIALIZE, MAIN), "dab"),
        ((SECTION, START), "dc"),
        (('(func (export "_initialize") (param i32))', START), "c"),
        ((INITIALIZE, '(func (export "main"))'), "a"),
        ((SECTION, '(func (export "start section"))'), "d"),
    ],
)
def test_the_order_of_a_start(engine: Engine, functions: tuple[str, ...], order: str) -> None:
    guest = Guest(engine, talker(*functions))
    assert "".join(guest.take()) == order
    guest.root()
    guest.vm.close()


@pytest.mark.parametrize(
    ("markers", "version"),
    [
        (["proxy_abi_version_0_1_0"], AbiVersion.V0_1_0),
        (["proxy_abi_version_0_2_0"], AbiVersion.V0_2_0),
        (["proxy_abi_version_0_2_1"], AbiVersion.V0_2_1),
        (["proxy_abi_version_0_2_0", "proxy_abi_version_0_1_0"], AbiVersion.V0_2_0),
        (["proxy_abi_version_0_3_0", "proxy_abi_version_0_2_1"], AbiVersion.V0_2_1),
    ],
)
def test_the_first_known_marker_is_the_version(engine: Engine, markers: list[str], version: AbiVersion) -> None:
    functions = "".join(f'(func (export "{name}"))' for name in markers)
    assert engine.compile(assemble(functions, UNMARKED)).version is version


def test_a_module_without_a_marker_or_with_an_unknown_one_is_refused(engine: Engine) -> None:
    with pytest.raises(MissingAbi):
        engine.compile(assemble("", UNMARKED))
    with pytest.raises(UnknownAbi):
        engine.compile(assemble('(func (export "proxy_abi_version_1_0_0"))', UNMARKED))


@pytest.mark.parametrize("version", ["ABI_0_1_0", "ABI_0_2_0", "ABI_0_2_1"])
def test_a_plugin_context_comes_up_in_the_order_of_the_abi(engine: Engine, version: str) -> None:
    guest = Guest(engine, console(version))
    guest.vm.create_root(b"")
    assert guest.take() == ["context_create 1 0", "vm_start 1 0", "configure 1 0"]
    guest.vm.close()


@pytest.mark.parametrize(("version", "arguments"), [("ABI_0_1_0", "5"), ("ABI_0_2_0", "5 1"), ("ABI_0_2_1", "5 1")])
def test_header_callbacks_have_the_arity_of_the_version(engine: Engine, version: str, arguments: str) -> None:
    guest = Guest(engine, console(version))
    stream = guest.stream()
    stream.request_headers(b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n", eos=True)
    stream.response_headers(b"HTTP/1.1 200 OK\r\na: b\r\nc: d\r\ne: f\r\ng: h\r\n", eos=True)
    assert guest.take() == ["context_create 2 1", f"request_headers 2 {arguments}", f"response_headers 2 {arguments}"]
    guest.vm.close()


@pytest.mark.parametrize(("version", "absent"), [("ABI_0_1_0", "OK"), ("ABI_0_2_0", "NOT_FOUND"), ("ABI_0_2_1", "NOT_FOUND")])
def test_an_absent_header_is_empty_in_the_oldest_version_only(engine: Engine, version: str, absent: str) -> None:
    guest = Guest(engine, console(version))
    guest.stream("request_headers get 0 absent").request_headers(b"GET / HTTP/1.1\r\n", eos=True)
    assert guest.take()[-1] == f"get: {absent}"
    guest.vm.close()


def test_the_oldest_version_asks_for_its_configuration(engine: Engine) -> None:
    guest = Guest(engine, console("ABI_0_1_0"), VmSettings("plugin", vm_configuration=b"of the VM"))
    guest.vm.create_root(b"vm_start configuration\nconfigure configuration")
    assert guest.take() == [
        *("context_create 1 0", "vm_start 1 9", "configuration: OK of the VM"),
        *("configure 1 46", "configuration: OK vm_start configuration%0aconfigure configuration"),
    ]
    guest.vm.close()


def test_configurations_are_read_at_any_time(engine: Engine) -> None:
    guest = Guest(engine, console(), VmSettings("plugin", vm_configuration=b"of the VM"))
    stream = guest.stream("request_headers buffer 6 0 99", "request_headers buffer 7 0 7", "request_headers buffer_status 7")
    stream.request_headers(b"GET / HTTP/1.1\r\n", eos=True)
    assert guest.take()[2:] == ["buffer: OK of the VM", "buffer: OK request", "buffer_status: OK 90 0"]
    guest.vm.close()


@pytest.mark.parametrize("stage", ["vm_start", "configure"])
def test_a_plugin_that_answers_false_is_refused_and_the_vm_lives_on(guest: Guest, stage: str) -> None:
    with pytest.raises(PluginRefused, match=f"answered false to proxy_on_{stage}"):
        guest.vm.create_root(f"{stage} return 0\n{stage} tick_period 5".encode())
    assert guest.take()[-1] == "delete 1"
    assert guest.recorder.periods[-1] == (1, 0)
    assert not guest.vm.roots
    assert guest.root().id == 1


@pytest.mark.parametrize("stage", ["context_create", "vm_start", "configure"])
def test_a_trap_while_starting_ends_the_vm(guest: Guest, stage: str) -> None:
    with pytest.raises(VmFailed) as failure:
        guest.vm.create_root(f"{stage} trap".encode())
    assert failure.value.code == "unreachable"
    with pytest.raises(VmFailed) as again:
        guest.vm.create_root(b"")
    assert again.value is failure.value


@pytest.mark.parametrize(
    "functions",
    ["(func $f unreachable) (start $f)", '(func (export "_initialize") unreachable)', '(func (export "_start") unreachable)'],
)
def test_a_module_that_traps_at_start_makes_no_vm(engine: Engine, functions: str) -> None:
    with pytest.raises(VmFailed) as failure:
        Guest(engine, assemble(functions))
    assert failure.value.code == "unreachable"
    assert "unreachable" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_what_an_aborting_start_section_says_is_heard(engine: Engine) -> None:
    """As AssemblyScript does it: UTF-16, its size in bytes before it."""
    strings = [text.encode("utf-16-le") for text in ("no r\u00f6\u20act\n", "index.ts")]
    (first, second) = (
        b"".join(f"\\{byte:02x}".encode() for byte in len(s).to_bytes(4, "little") + s).decode() for s in strings
    )
    module = assemble(
        f'(data (i32.const 16) "{first}") (data (i32.const 64) "{second}") (start $f)'
        "(func $f (call $abort (i32.const 20) (i32.const 68) (i32.const 12) (i32.const 4294967295)))",
        imports='(import "env" "abort" (func $abort (param i32 i32 i32 i32)))',
    )
    recorder = Recorder()
    with pytest.raises(VmFailed):
        PluginVM(engine, engine.compile(module), VmSettings("plugin"), recorder)
    assert recorder.logs == [(LogLevel.ERROR, 0, "abort: no r??t? at index.ts:12:4294967295")]


MISTYPED = """
  (func (export "proxy_on_vm_start") (param i32) (result i32) unreachable)
  (func (export "proxy_on_configure") (param i32 i32) unreachable)
  (func (export "proxy_on_context_create") (param i64 i32) unreachable)
  (func (export "proxy_on_request_headers") (param i32 i32) (result i32) unreachable)
  (func (export "proxy_on_request_body") (result i32) unreachable)
  (func (export "proxy_on_done") (param i32) unreachable)
  (func (export "proxy_on_log") (param i32) (result i32) unreachable)
  (global (export "proxy_on_delete") i32 (i32.const 0))
"""


def test_callbacks_of_another_type_are_absent(engine: Engine) -> None:
    guest = Guest(engine, assemble(MISTYPED))
    stream = guest.stream()
    assert stream.request_headers(b"GET / HTTP/1.1\r\n", eos=False) is None
    assert not guest.vm.reads_request_body
    assert not guest.vm.logs_streams
    stream.finish()
    assert stream.root.delete()
    guest.vm.close()


def test_a_plugin_without_any_callback_lets_everything_pass(engine: Engine) -> None:
    guest = Guest(engine, assemble(""))
    stream = guest.stream()
    assert stream.request_headers(b"GET / HTTP/1.1\r\nhost: a\r\n", eos=True) is None
    assert stream.response_headers(b"HTTP/1.1 200 OK\r\n", eos=True) is None
    stream.finish()
    assert stream.root.delete()
    guest.vm.close()


def test_a_vm_has_the_environment_that_it_was_given_and_no_other(engine: Engine) -> None:
    settings = VmSettings("plugin", environment={"COLOUR": "blue", "EMPTY": "", "PATH": "é"})
    guest = Guest(engine, console(), settings)
    open_stream(guest.root("request_headers environ")).request_headers(b"GET / HTTP/1.1\r\n", eos=True)
    assert guest.take()[-1] == "environ: 0 0 COLOUR=blue EMPTY= PATH=é"
    guest.vm.close()


def test_a_configuration_that_does_not_fit_ends_the_vm(engine: Engine) -> None:
    """Two mebibytes are what the core has at least: 900,000 bytes fit once, not twice."""
    guest = Guest(engine, assemble(""), limits(memory_bytes=1))
    with pytest.raises(VmFailed) as failure:
        guest.vm.create_root(b"x" * 900_000)
    assert failure.value.code == "out_of_memory"
    with pytest.raises(VmFailed, match="no room"):
        Guest(engine, assemble(""), VmSettings("plugin", limits(memory_bytes=1).limits, vm_configuration=b"x" * 900_000))
