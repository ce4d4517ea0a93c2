"""The core's build: same sources, same bytes; rebuilt exactly when a source changed; errors in one readable message."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from shared.proxy_wasm.core_build import (
    CoreBuildError,
    build_core,
    build_native,
    digest_file,
    ensure_core,
    source_digest,
)

CORE_C = """
#include "answer.h"
__attribute__((export_name("answer"))) int answer(void) { return ANSWER; }
__attribute__((export_name("file"))) const char *file(void) { return __FILE__; }
"""


def sources(folder: Path, answer: int = 42) -> Path:
    folder.mkdir(parents=True)
    (folder / "core.c").write_text(CORE_C)
    (folder / "answer.h").write_text(f"#define ANSWER {answer}\n")
    return folder


def test_the_same_sources_give_the_same_bytes_in_any_folder(tmp_path: Path) -> None:
    first = build_core(sources(tmp_path / "a" / "core"), tmp_path / "a" / "core.wasm")
    second = build_core(sources(tmp_path / "elsewhere" / "deeper" / "core"), tmp_path / "b.wasm")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"\0asm\1\0\0\0")


def test_no_path_of_the_machine_reaches_the_module(tmp_path: Path) -> None:
    module = build_core(sources(tmp_path / "core"), tmp_path / "core.wasm").read_bytes()
    assert str(tmp_path).encode() not in module
    assert str(Path.home()).encode() not in module


def test_an_up_to_date_module_is_left_alone(tmp_path: Path) -> None:
    folder, output = sources(tmp_path / "core"), tmp_path / "core.wasm"
    ensure_core(folder, output)
    written = output.stat().st_mtime_ns
    ensure_core(folder, output)
    assert output.stat().st_mtime_ns == written


def test_a_changed_header_rebuilds_the_module(tmp_path: Path) -> None:
    folder, output = sources(tmp_path / "core"), tmp_path / "core.wasm"
    before = ensure_core(folder, output).read_bytes()
    (folder / "answer.h").write_text("#define ANSWER 43\n")
    assert ensure_core(folder, output).read_bytes() != before
    assert digest_file(output).read_text().strip() == source_digest(folder)


def test_a_shipped_module_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, output = sources(tmp_path / "core"), tmp_path / "core.wasm"
    ensure_core(folder, output)
    monkeypatch.setattr("shared.proxy_wasm.core_build._wasm_compiler", lambda: pytest.fail("asked for a compiler"))
    assert ensure_core(folder, output) == output


def test_a_syntax_error_is_reported_with_its_place(tmp_path: Path) -> None:
    folder = sources(tmp_path / "core")
    (folder / "core.c").write_text("int answer(void) { return }\n")
    with pytest.raises(CoreBuildError, match=r"core\.c:1:27: error: expected expression"):
        build_core(folder, tmp_path / "core.wasm")
    assert not (tmp_path / "core.wasm").exists()


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(CoreBuildError, match=r"no core\.c in "):
        build_core(tmp_path, tmp_path / "core.wasm")


def test_without_any_compiler_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.proxy_wasm.core_build._zig", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CoreBuildError, match="pip install ziglang"):
        build_core(sources(tmp_path / "core"), tmp_path / "core.wasm")


def test_a_native_build_stops_at_undefined_behaviour(tmp_path: Path) -> None:
    program = tmp_path / "overflow.c"
    program.write_text("int main(int argc, char **argv) { int x = 2147483647; x += argc; return argv[0][0] == x; }\n")
    for built in build_native([program], tmp_path / "overflow", include=()):
        assert "undefined" in built.sanitizers
        run = subprocess.run([built.program], capture_output=True, text=True, check=False)
        assert run.returncode != 0
        assert "overflow" in run.stderr
