"""`waspgate plugin new`, `build` and `inspect`: every language from an empty folder to a module whose own test passes."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from control_plane.cli.plugin.new import Language
from shared.proxy_wasm import Plugin
from tests.integration.cli.conftest import Waspgate
from tests.support.guest import assemble

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / ".build"


@pytest.fixture
def toolchains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that `make plugins` uses, whatever else the machine has."""
    pinned = tomllib.loads((ROOT / "plugins/rust/rust-toolchain.toml").read_text())["toolchain"]["channel"]
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("RUSTUP_TOOLCHAIN", pinned)
    for name, folder in {"RUSTUP_HOME": "rustup", "CARGO_HOME": "cargo", "CARGO_TARGET_DIR": "rust"}.items():
        monkeypatch.setenv(name, str(BUILD / folder))
    for machine in ("X86_64", "AARCH64"):
        monkeypatch.setenv(f"CARGO_TARGET_{machine}_UNKNOWN_LINUX_GNU_LINKER", str(BUILD / "linker"))
    for name, folder in {"GOCACHE": "go-cache", "GOPATH": "go"}.items():
        monkeypatch.setenv(name, str(BUILD / folder))


@pytest.mark.parametrize("language", list(Language))
@pytest.mark.usefixtures("toolchains")
def test_a_new_plugin_builds_and_its_test_passes(waspgate: Waspgate, tmp_path: Path, language: Language) -> None:
    folder, name = tmp_path / "my-plugin", "my-plugin"
    assert waspgate("plugin", "new", "--lang", language.value, name, "--into", tmp_path).out.startswith(f"made {folder};")
    if language is Language.ASSEMBLYSCRIPT:
        # The packages of the example, instead of fetching the same ones again.
        (folder / "node_modules").symlink_to(ROOT / "plugins/assemblyscript/greeting/node_modules")
    built = waspgate("plugin", "build", folder)
    assert built.status == 0, built.err
    module = folder / "build" / f"{name}.wasm"
    assert built.out.startswith(f"{module}: {module.stat().st_size} bytes, ABI 0.2.")
    ran = waspgate("plugin", "run", module, "--conf", "hello", "--request", folder / "request.toml")
    assert ran.status == 0
    assert "x-greeting: hello\n" in ran.out
    # In this process, which has compiled the module already.
    tests = [
        function for title, function in runpy.run_path(str(folder / "test_plugin.py")).items() if title.startswith("test_")
    ]
    assert len(tests) == 2
    for test in tests:
        test()
    assert "{{" not in "".join(path.read_text() for path in folder.iterdir() if path.is_file())


def test_a_folder_that_is_there_is_left_alone(waspgate: Waspgate, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    ended = waspgate("plugin", "new", "--lang", "c", "mine", "--into", tmp_path)
    assert (ended.status, ended.err) == (1, f"waspgate: {tmp_path / 'mine'} is there already\n")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["My", "a_b", "1a", "a/b", "", "ü"])
def test_a_name_must_do_for_every_toolchain(waspgate: Waspgate, tmp_path: Path, name: str) -> None:
    ended = waspgate("plugin", "new", "--lang", "c", name, "--into", tmp_path)
    assert ended.status == 2
    assert "a plugin's name is lower-case letters" in ended.err


def test_what_cannot_be_built_is_said(waspgate: Waspgate, tmp_path: Path) -> None:
    assert "expected one of Cargo.toml (Rust)" in waspgate("plugin", "build", tmp_path).err
    assert "is no folder" in waspgate("plugin", "build", tmp_path / "absent").err
    (tmp_path / "a.c").write_text("nonsense")
    ended = waspgate("plugin", "build", tmp_path)
    assert ended.status == 1
    assert "ended with status 1" in ended.err
    (tmp_path / "a.c").write_text("int x;")
    ended = waspgate("plugin", "build", tmp_path, "--out", tmp_path / "x.wasm")
    assert "was built, but is no plugin: not a Proxy-Wasm plugin" in ended.err


@pytest.mark.parametrize(
    ("marker", "text", "complaint"),
    [
        ("Cargo.toml", '[package]\nname = "x"', "cargo is not on PATH, and this plugin needs Rust: get it from"),
        ("go.mod", "module x", "go is not on PATH, and this plugin needs Go 1.24: get it from"),
        ("package.json", "{}", "node is not on PATH, and this plugin needs Node.js: get it from"),
        ("x.c", "", "zig is not on PATH, and this plugin needs a C compiler for Wasm: get it from pip install ziglang"),
    ],
)
def test_a_missing_toolchain_is_named_with_its_source(
    waspgate: Waspgate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str, text: str, complaint: str
) -> None:
    (tmp_path / marker).write_text(text)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ended = waspgate("plugin", "build", tmp_path)
    assert ended.status == 1
    assert complaint in ended.err


def test_inspect_says_what_a_module_is(waspgate: Waspgate, greeting: Path) -> None:
    shown = waspgate("plugin", "inspect", greeting)
    assert shown.status == 0
    assert shown.out.startswith("loadable         yes\n")
    assert "\n                 proxy_on_request_headers\n" in shown.out
    document = json.loads(waspgate("plugin", "inspect", greeting, "--output", "json").out)
    assert (document["loadable"], document["abi_version"], document["problem"]) == (True, "0.2.1", "")
    assert "proxy_send_local_response" in document["host_functions"]
    assert document["size"] == greeting.stat().st_size


def test_inspect_says_what_is_wrong_with_it(waspgate: Waspgate, tmp_path: Path) -> None:
    module = tmp_path / "odd.wasm"
    module.write_bytes(
        assemble(
            '(func (export "proxy_on_log") (param i64)) (func (export "proxy_on_done") (param i32) (result i32) i32.const 1)',
            imports='(import "env" "nonsense" (func)) (import "other" "f" (func))',
        )
    )
    shown = waspgate("plugin", "inspect", module)
    assert shown.status == 1
    assert "loadable         no: unknown imports env.nonsense, other.f\n" in shown.out
    assert "unknown imports  env.nonsense\n                 other.f" in shown.out
    module.write_bytes(b"nothing")
    document = json.loads(waspgate("plugin", "inspect", module, "--output", "json").out)
    assert document["loadable"] is False
    assert document["problem"].startswith("not a Wasm module")
    assert document["callbacks"] == []


def test_inspect_names_what_is_never_called(waspgate: Waspgate, tmp_path: Path) -> None:
    module = tmp_path / "odd.wasm"
    module.write_bytes(assemble('(func (export "proxy_on_log") (param i64))'))
    shown = waspgate("plugin", "inspect", module)
    assert shown.status == 0
    assert "never called     proxy_on_log (its type is not the ABI's)" in shown.out


def test_what_inspect_accepts_is_loaded(greeting: Path) -> None:
    with Plugin.load(greeting, configuration='{"value": "v"}') as plugin:
        assert plugin.request().response.status == 200
