"""Imports the hot path's modules as machine code, where it has been compiled from the very sources that are here.

The law: all of them or none. Compiled modules are linked with each other, so one that was edited afterwards turns all back into
plain Python until the next build; nothing else notices. `WASPGATE_PURE_PYTHON=1` does so too.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
# By interpreter: a checkout may be tried with several.
LIBRARY = Path(__file__).resolve().parent / "lib" / str(sys.implementation.cache_tag)
MANIFEST = "manifest.json"
PURE = "WASPGATE_PURE_PYTHON"


def source_of(module: str, root: Path = ROOT, suffix: str = ".py") -> Path:
    return root.joinpath(*module.split(".")).with_suffix(suffix)


def sources_digest(sources: Iterable[str], root: Path = ROOT) -> str:
    """One digest over every file's name and content. Raises OSError."""
    digest = hashlib.sha256()
    for source in sorted(sources):
        content = (root / source).read_bytes()
        digest.update(f"{source}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


class CompiledFinder:
    """Finds what the manifest of a build names, by full name: `{"data_plane.exchange.exchange": path}`."""

    def __init__(self, libraries: dict[str, Path]) -> None:
        self._libraries = libraries

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        library = self._libraries.get(name)
        if library is None:
            return None
        return spec_from_file_location(name, library, loader=ExtensionFileLoader(name, str(library)))


def compiled_libraries(library: Path = LIBRARY, root: Path = ROOT) -> dict[str, Path]:
    """What a build left in `library`, if it is of these sources; else nothing."""
    try:
        manifest = json.loads((library / MANIFEST).read_bytes())
        if sources_digest(manifest["sources"], root) != manifest["digest"]:
            return {}
        return {name: library / file for name, file in manifest["libraries"].items()}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def is_compiled() -> bool:
    return any(isinstance(finder, CompiledFinder) for finder in sys.meta_path)


def install() -> None:
    if os.environ.get(PURE) or is_compiled():
        return
    libraries = compiled_libraries()
    if libraries:
        sys.meta_path.insert(0, CompiledFinder(libraries))
