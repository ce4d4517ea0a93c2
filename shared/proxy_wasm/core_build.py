"""Compiles the core: one C program, as the Wasm module that is shipped and as a native program that tests can sanitize.

The law: the same sources and the same compiler give the same bytes, whatever the machine and the folder; `core.wasm` is
rebuilt exactly when the digest of its sources and flags, kept beside it in `core.wasm.digest`, no longer matches.

A wheel carries both files and the sources, so an installed gateway never needs a compiler. The build hook loads this
file by its path, before any dependency is there: it imports the standard library only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "core"
CORE = Path(__file__).parent / "core.wasm"

# core.c includes its siblings, so one translation unit is all there is to link.
UNIT = "core.c"

WASM_FLAGS = (
    *("-target", "wasm32-freestanding", "-std=c11", "-O2", "-mbulk-memory", "-nostdlib"),
    *("-Wl,--no-entry", "-Wl,--import-memory", "-Wl,--strip-all"),
)
# -O1 keeps a sanitizer's stack traces readable and is still fast enough to fuzz.
NATIVE_FLAGS = ("-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-fno-omit-frame-pointer")

# A cold zig compiles its own runtime libraries first, 23 s on two busy cores; anything near this limit is a hang.
TIMEOUT_SECONDS = 300


class CoreBuildError(Exception):
    """The core could not be compiled; the message says what was tried and what to install."""


@dataclass(frozen=True, slots=True)
class NativeBuild:
    """A native program and the sanitizers that are really in it: zig ships none for addresses."""

    program: Path
    sanitizers: tuple[str, ...]


def source_digest(sources: Path = SOURCES) -> str:
    """One digest over every C file's name and content and the flags, in name order."""
    digest = hashlib.sha256("\0".join(WASM_FLAGS).encode())
    for path in sorted(sources.glob("*.[ch]")):
        content = path.read_bytes()
        digest.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def ensure_core(sources: Path = SOURCES, output: Path = CORE) -> Path:
    """The up-to-date `core.wasm`, compiled now if it is missing or older than its sources. Raises CoreBuildError."""
    expected = source_digest(sources)
    sidecar = digest_file(output)
    if output.is_file() and sidecar.is_file() and sidecar.read_text().strip() == expected:
        return output
    return build_core(sources, output)


def build_core(sources: Path = SOURCES, output: Path = CORE) -> Path:
    """Compile unconditionally. Several processes may do so at once: each replaces the file whole."""
    if not (sources / UNIT).is_file():
        raise CoreBuildError(f"cannot build {output.name}: no {UNIT} in {sources}")
    digest = source_digest(sources)
    with tempfile.TemporaryDirectory(prefix="waspgate-core-") as scratch:
        compiled = Path(scratch) / "core.wasm"
        # Relative names and the sources as working directory: no path of this machine can reach the output.
        _compile([*_wasm_compiler(), *WASM_FLAGS, "-o", str(compiled), UNIT], cwd=sources, scratch=scratch)
        _replace(output, compiled.read_bytes())
    _replace(digest_file(output), f"{digest}\n".encode())
    return output


def build_native(
    sources: Sequence[Path], output: Path, *, include: Sequence[Path] = (SOURCES,), extra_flags: Sequence[str] = ()
) -> list[NativeBuild]:
    """Compile C files with every compiler here that has sanitizers, each to `<output>-<compiler>`: one finds what another
    lets pass. Raises CoreBuildError.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = [*NATIVE_FLAGS, *extra_flags, *(f"-I{folder.resolve()}" for folder in include)]
    arguments += map(str, (source.resolve() for source in sources))
    builds = []
    with tempfile.TemporaryDirectory(prefix="waspgate-core-") as scratch:
        for name, (compiler, sanitizers) in _native_compilers(Path(scratch)).items():
            program = output.resolve().with_name(f"{output.name}-{name}")
            sanitize = [f"-fsanitize={','.join(sanitizers)}", "-fno-sanitize-recover=all"]
            _compile([*compiler, *sanitize, *arguments, "-o", str(program)], cwd=output.parent, scratch=scratch)
            builds.append(NativeBuild(program, sanitizers))
    return builds


def digest_file(output: Path) -> Path:
    return output.with_name(output.name + ".digest")


def _wasm_compiler() -> list[str]:
    zig = _zig()
    if zig is not None:
        return zig
    clang = shutil.which("clang")
    if clang is not None and shutil.which("wasm-ld") is not None:
        return [clang]
    raise CoreBuildError(
        "cannot build core.wasm: no compiler for wasm32; run `pip install ziglang`, or install clang together with lld"
    )


def _native_compilers(scratch: Path) -> dict[str, tuple[list[str], tuple[str, ...]]]:
    """By name: a system compiler that links the address sanitizer, and zig, whose check of undefined behaviour is stricter."""
    found: dict[str, tuple[list[str], tuple[str, ...]]] = {}
    probe = scratch / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    for name in ("clang", "gcc", "cc"):
        path = shutil.which(name)
        if path is None:
            continue
        command = [path, "-fsanitize=address,undefined", "-o", str(scratch / "probe"), str(probe)]
        if subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT_SECONDS).returncode == 0:
            found[name] = [path], ("address", "undefined")
            break
    zig = _zig()
    if zig is not None:
        found["zig"] = [*zig, "-fno-sanitize-trap=undefined"], ("undefined",)
    if not found:
        raise CoreBuildError("cannot build a native program: no clang, gcc or cc with sanitizers, no `ziglang` package")
    return found


def _zig() -> list[str] | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    return [sys.executable, "-m", "ziglang", "cc"]


def _compile(command: list[str], cwd: Path, scratch: str) -> None:
    environment = dict(os.environ)
    # zig insists on a cache and finds no place for one when HOME is not set.
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(Path(scratch) / "zig"))
    environment.setdefault("ZIG_LOCAL_CACHE_DIR", environment["ZIG_GLOBAL_CACHE_DIR"])
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise CoreBuildError(f"the compiler took more than {TIMEOUT_SECONDS} s: {' '.join(command)}") from error
    if result.returncode != 0:
        raise CoreBuildError(f"the compiler answered {result.returncode}: {' '.join(command)}\n{result.stderr.strip()}")


def _replace(path: Path, content: bytes) -> None:
    """Write whole or not at all: a reader sees the old file or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise CoreBuildError(f"cannot write {path}: {error.strerror}") from error


def main() -> None:
    """`python -m shared.proxy_wasm.core_build`: what the Makefile calls."""
    try:
        ensure_core()
    except CoreBuildError as error:
        sys.exit(f"waspgate: {error}")


if __name__ == "__main__":
    main()
