"""Compiles the hot path's modules with mypyc, the compiler that comes with mypy.

The law: the modules stay plain, typed Python, which is what runs wherever nothing was compiled; a machine that cannot compile
(no headers of its Python) loses speed and nothing else. The build goes to a folder of its own and replaces the old one whole.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.compiled.finder import LIBRARY, MANIFEST, ROOT, compiled_libraries, source_of, sources_digest

# What every request runs through, and the classes that inherit from those: a compiled class has compiled heirs only.
MODULES = (
    "data_plane.balance.round_robin",
    "data_plane.callout.http_message",
    "data_plane.exchange.choosing",
    "data_plane.exchange.exchange",
    "data_plane.exchange.filtered",
    "data_plane.exchange.framing",
    "data_plane.exchange.heads",
    "data_plane.exchange.info",
    "data_plane.exchange.messages",
    "data_plane.exchange.opening",
    "data_plane.exchange.outgoing",
    "data_plane.exchange.replies",
    "data_plane.exchange.requester",
    "data_plane.exchange.sending",
    "data_plane.exchange.trailing",
    "data_plane.exchange.watched",
    "data_plane.http.authority",
    "data_plane.http.chunked",
    "data_plane.http.downstream",
    "data_plane.http.ending",
    "data_plane.http.forwarded",
    "data_plane.http.head",
    "data_plane.http.pool",
    "data_plane.http.reading",
    "data_plane.http.responses",
    "data_plane.http.timers",
    "data_plane.http.upstream",
    "data_plane.plugins.stream",
    "data_plane.plugins.streams",
    "shared.proxy_wasm.calls",
    "shared.proxy_wasm.contexts",
    "shared.proxy_wasm.instructions",
    "shared.proxy_wasm.outcome",
    "shared.proxy_wasm.plugin_context",
)
# What is C to begin with: Python stands in for it where it is not there.
NATIVES = ("shared.proxy_wasm.native_entry",)
# The library that all of them share.
GROUP = "waspgate"
# Types are `make types`'s business; here those of packages that are not installed do not matter.
MYPY_OPTIONS = ("--config-file=", "--explicit-package-bases", "--ignore-missing-imports", "--no-warn-unused-ignores")

# Of what a compiler says, in an error: its end.
WORDS = 2000


class CompileError(Exception):
    """The modules cannot be compiled here; the message says why."""


def ensure_compiled() -> None:
    """Compile unless the library is up to date. Raises CompileError."""
    if not compiled_libraries():
        compile_modules()


def compile_modules(
    modules: Sequence[str] = MODULES,
    natives: Sequence[str] = NATIVES,
    root: Path = ROOT,
    library: Path = LIBRARY,
) -> None:
    """Compile unconditionally; half a minute for the gateway's own modules. Raises CompileError."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise CompileError("the headers of this Python are not installed (Debian: python3-dev)")
    with tempfile.TemporaryDirectory(prefix="waspgate-compiled-") as scratch, _compiler(), _folder(root):
        built = Path(scratch) / "built"
        sources = [str(source_of(module, Path())) for module in modules]
        sources += [str(source_of(module, Path(), ".c")) for module in natives]
        digest = sources_digest(sources, root)
        libraries = _compile(modules, natives, built, Path(scratch))
        manifest = {"digest": digest, "sources": sources, "libraries": libraries}
        (built / MANIFEST).write_text(json.dumps(manifest, indent=1))
        shutil.rmtree(library, ignore_errors=True)
        shutil.copytree(built, library)


def _compile(modules: Sequence[str], natives: Sequence[str], built: Path, scratch: Path) -> dict[str, str]:
    """Where each module's library lies in `built`."""
    try:
        from mypyc.build import mypycify
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
    except ImportError as error:
        raise CompileError(f"{error.name} is not installed") from error
    paths = [str(source_of(module, Path())) for module in modules]
    options = [*MYPY_OPTIONS, f"--cache-dir={scratch / 'mypy'}"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            extensions = mypycify([*options, *paths], target_dir=str(scratch / "c"), opt_level="2", group_name=GROUP)
            extensions += [Extension(module, [str(source_of(module, Path(), ".c"))]) for module in natives]
            command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
            command.build_lib, command.build_temp = str(built), str(scratch / "o")
            command.parallel = os.cpu_count()
            command.ensure_finalized()
            command.run()
    except (Exception, SystemExit) as error:  # whatever a compiler did not like
        raise CompileError(said.getvalue()[-WORDS:].strip() or str(error)) from error
    return {extension.name: command.get_ext_filename(extension.name) for extension in extensions}


@contextlib.contextmanager
def _compiler() -> Iterator[None]:
    """The system's C compiler, else zig's."""
    if "CC" in os.environ or shutil.which("cc") or shutil.which("gcc"):
        yield
        return
    zig = f"{sys.executable} -m ziglang cc"
    os.environ["CC"], os.environ["LDSHARED"] = zig, f"{zig} -shared"
    try:
        yield
    finally:
        del os.environ["CC"], os.environ["LDSHARED"]


@contextlib.contextmanager
def _folder(root: Path) -> Iterator[None]:
    """mypyc takes a module's name from its path below the working directory."""
    with contextlib.chdir(root):
        yield


def main() -> None:
    try:
        ensure_compiled()
    except CompileError as error:
        print(f"waspgate: the hot path stays plain Python: {error}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
