"""Compiled code that is kept on disk: found again by the same engine, and never executed when anybody has touched it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import wasmtime

from shared.proxy_wasm.code_cache import CodeCache, CodeCacheError
from shared.proxy_wasm.engine import Engine
from tests.support.guest import assemble

MODULE = assemble('(func (export "proxy_on_tick") (param i32))')


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "code"


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.code"))


def never(*_: object) -> None:
    raise AssertionError("not to be called")


# --- the cache


def test_what_was_stored_is_found_by_the_same_module_and_engine_only(directory: Path) -> None:
    CodeCache(directory, "engine 1").put(b"module", b"code")
    again = CodeCache(directory, "engine 1")
    assert again.get(b"module") == b"code"
    assert again.get(b"another") is None
    assert CodeCache(directory, "engine 2").get(b"module") is None


def test_nobody_else_may_read_the_key_or_enter(directory: Path) -> None:
    CodeCache(directory, "engine").put(b"module", b"code")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize("at", [0, 31, 32, -1])
def test_a_changed_byte_is_no_entry(directory: Path, at: int) -> None:
    cache = CodeCache(directory, "engine")
    cache.put(b"module", b"some code")
    (path,) = entries(directory)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert cache.get(b"module") is None


@pytest.mark.parametrize("size", [0, 5, 32, 40])
def test_a_cut_entry_is_no_entry(directory: Path, size: int) -> None:
    cache = CodeCache(directory, "engine")
    cache.put(b"module", b"some code")
    (path,) = entries(directory)
    path.write_bytes(path.read_bytes()[:size])
    assert cache.get(b"module") is None


def test_an_entry_of_another_installation_or_under_another_name_is_no_entry(directory: Path, tmp_path: Path) -> None:
    cache, other = CodeCache(directory, "engine"), CodeCache(tmp_path / "other", "engine")
    other.put(b"module", b"code")
    (foreign,) = entries(tmp_path / "other")
    shutil.copy(foreign, directory)
    assert cache.get(b"module") is None
    cache.put(b"one", b"code of one")
    (own,) = [path for path in entries(directory) if path.name != foreign.name]
    shutil.copy(own, directory / foreign.name)
    assert cache.get(b"module") is None


def test_a_file_that_others_may_write_or_a_link_is_no_entry(directory: Path, tmp_path: Path) -> None:
    cache = CodeCache(directory, "engine")
    cache.put(b"module", b"code")
    (path,) = entries(directory)
    path.chmod(0o620)
    assert cache.get(b"module") is None
    path.chmod(0o600)
    assert cache.get(b"module") == b"code"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get(b"module") is None
    path.unlink()
    os.mkfifo(path)
    assert cache.get(b"module") is None


def test_a_directory_that_others_may_write_or_that_is_none_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    with pytest.raises(CodeCacheError, match=r"shared: expected a directory that user \d+ alone may write"):
        CodeCache(shared, "engine")
    (tmp_path / "file").write_text("")
    with pytest.raises(CodeCacheError, match="file: cannot be used: File exists"):
        CodeCache(tmp_path / "file", "engine")
    with pytest.raises(CodeCacheError, match="cannot be used: Not a directory"):
        CodeCache(tmp_path / "file" / "below", "engine")


def test_a_lost_key_voids_what_it_signed(directory: Path) -> None:
    CodeCache(directory, "engine").put(b"module", b"code")
    (directory / "key").write_bytes(b"short")
    cache = CodeCache(directory, "engine")
    assert cache.get(b"module") is None
    cache.put(b"module", b"new code")
    assert CodeCache(directory, "engine").get(b"module") == b"new code"


def test_the_least_recently_used_go_first(directory: Path) -> None:
    cache = CodeCache(directory, "engine", most_bytes=3 * (32 + 100))
    for number in range(3):
        cache.put(b"%d" % number, bytes(100))
    for at, number in enumerate((1, 2, 0)):
        (path,) = [path for path in entries(directory) if path.name == cache._name(b"%d" % number)]
        os.utime(path, (at, at))
    cache.put(b"3", bytes(100))
    assert [number for number in range(4) if cache.get(b"%d" % number) is not None] == [0, 2, 3]


def test_a_full_disk_harms_nobody(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CodeCache(directory, "engine")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    cache.put(b"module", b"code")
    assert cache.get(b"module") is None


# --- the engine


def test_an_engine_that_starts_again_compiles_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Engine(directory)
    first.compile(MODULE)
    first.close()
    monkeypatch.setattr(wasmtime.Module, "__init__", never)
    second = Engine(directory)
    second.compile(MODULE)
    second.close()


def test_damaged_code_is_compiled_anew_and_never_loaded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Engine(directory)
    first.compile(MODULE)
    kept = {path: path.read_bytes() for path in entries(directory)}
    for path, data in kept.items():
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with monkeypatch.context() as patched:
        patched.setattr(wasmtime.Module, "deserialize", never)
        second = Engine(directory)
        second.compile(MODULE)
    assert len(kept) == 4, "the core, the plugin, and what ties them together"
    assert {path: path.read_bytes() for path in entries(directory)} == kept
    first.close()
    second.close()


def test_code_that_the_engine_does_not_take_is_compiled_anew(directory: Path) -> None:
    engine = Engine(directory)
    assert engine._cache is not None
    for path in entries(directory):
        path.unlink()
    config = wasmtime.Config()
    other = wasmtime.Module(wasmtime.Engine(config), MODULE).serialize()
    engine._cache.put(MODULE, bytes(other))
    engine.compile(MODULE)
    engine.close()
