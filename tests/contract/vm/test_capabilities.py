"""What a plugin may use and hear of: an allow-list that is applied when it is linked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shared.proxy_wasm.abi import CALLBACKS, HOST_FUNCTIONS, WASI_FUNCTIONS
from shared.proxy_wasm.capabilities import denied
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.vm import PluginVM, VmSettings
from tests.support.guest import Recorder, assemble, console, open_stream

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
Restrict = Callable[..., tuple[PluginVM, Recorder]]


@pytest.fixture
def restrict(engine: Engine) -> Iterator[Restrict]:
    """A VM of the console plugin, or of another module, with nothing but these capabilities."""
    made: list[PluginVM] = []

    def make(*names: str, module: bytes | None = None) -> tuple[PluginVM, Recorder]:
        recorder = Recorder()
        compiled = engine.compile(console() if module is None else module, frozenset(names))
        made.append(PluginVM(engine, compiled, VmSettings("plugin"), recorder))
        return made[-1], recorder

    yield make
    for vm in made:
        vm.close()


def test_a_host_function_that_is_not_allowed_is_an_internal_failure(restrict: Restrict) -> None:
    vm, recorder = restrict("proxy_log", "proxy_get_buffer_bytes", "proxy_get_header_map_value")
    root = vm.create_root(b"request_headers get 0 host\nrequest_headers add 0 a b\nrequest_headers property plugin_name")
    recorder.take()
    assert open_stream(root).request_headers(GET, eos=True) is not None
    assert recorder.take()[2:] == ["get: OK a", "add: INTERNAL_FAILURE", "property: INTERNAL_FAILURE"]


def test_the_field_that_was_not_allowed_is_not_there(restrict: Restrict) -> None:
    vm, _ = restrict("proxy_get_buffer_bytes")
    root = vm.create_root(b"request_headers add 0 a b")
    assert open_stream(root).request_headers(GET, eos=True) is None


def test_a_callback_that_is_not_allowed_is_never_called(restrict: Restrict) -> None:
    allowed = CALLBACKS.keys() - {"proxy_on_request_body", "proxy_on_tick", "proxy_on_log"}
    vm, recorder = restrict(*allowed)
    assert (vm.reads_request_body, vm.reads_response_body, vm.logs_streams) == (False, True, False)
    root = vm.create_root(b"")
    root.tick()
    stream = open_stream(root)
    stream.request_headers(GET, eos=True)
    stream.finish()
    assert [line.partition(" ")[0] for line in recorder.take()] == [
        *("context_create", "vm_start", "configure", "context_create", "request_headers", "done", "delete"),
    ]


def test_a_callback_that_decides_answers_its_default_when_it_is_not_allowed(restrict: Restrict) -> None:
    vm, _ = restrict("proxy_on_context_create")
    vm.create_root(b"configure return 0\nvm_start return 0").delete()


WASI = """
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (i32.eq (call $random (i32.const 0) (i32.const 4)) (i32.const 76)))
"""
IMPORT = '(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))'


def test_a_wasi_function_that_is_not_allowed_is_not_capable(restrict: Restrict) -> None:
    module = assemble(WASI, imports=IMPORT)
    vm, _ = restrict("fd_write", module=module)
    vm.create_root(b"")


def test_a_list_restricts_only_the_kinds_that_it_names_something_of() -> None:
    assert denied(None) == frozenset()
    assert denied(frozenset({"proxy_log"})) == HOST_FUNCTIONS.keys() - {"proxy_log"}
    assert denied(frozenset({"proxy_on_tick", "fd_write"})) == (CALLBACKS.keys() | WASI_FUNCTIONS.keys()) - {
        *("proxy_on_tick", "fd_write"),
    }
