"""Compiled modules: they are what runs when they are of the sources that lie there, and only then."""

from __future__ import annotations

import inspect
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import data_plane
from shared.compiled.build import MODULES, CompileError, compile_modules
from shared.compiled.finder import CompiledFinder, compiled_libraries, source_of

BASE = "class Base:\n    def name(self) -> str:\n        return 'base'\n"
HEIR = "from small.base import Base\n\nclass Heir(Base):\n    def names(self) -> str:\n        return self.name() * 2\n"
TRIAL = """
import sys
from pathlib import Path
from shared.compiled.finder import CompiledFinder, compiled_libraries
sys.meta_path.insert(0, CompiledFinder(compiled_libraries(Path(sys.argv[1]), Path(sys.argv[2]))))
sys.path.insert(0, sys.argv[2])
from small import base, heir
print(base.__file__.rpartition(".")[2], heir.__file__.rpartition(".")[2], heir.Heir().names())
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(library, sources) of two modules of which one needs the other."""
    root = tmp_path_factory.mktemp("sources")
    (root / "small").mkdir()
    for name, text in {"__init__": "", "base": BASE, "heir": HEIR}.items():
        (root / "small" / f"{name}.py").write_text(text)
    library = tmp_path_factory.mktemp("library") / "lib"
    try:
        compile_modules(("small.base", "small.heir"), (), root, library)
    except CompileError as error:
        # A Python without its headers: then there is no library, and what follows runs as plain Python.
        if "headers" not in str(error):
            raise
    return library, root


def trial(compiled: tuple[Path, Path]) -> list[str]:
    command = [sys.executable, "-c", TRIAL, *map(str, compiled)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    ).stdout.split()


def test_modules_run_compiled_until_one_is_edited(compiled: tuple[Path, Path]) -> None:
    library, root = compiled
    kind = "so" if library.exists() else "py"
    assert trial(compiled) == [kind, kind, "basebase"]
    (root / "small" / "base.py").write_text(BASE.replace("'base'", "'new'"))
    assert trial(compiled) == ["py", "py", "newnew"]
    (root / "small" / "base.py").write_text(BASE)
    assert trial(compiled) == [kind, kind, "basebase"]


@pytest.mark.parametrize("manifest", [None, "", "{", "{}", '{"sources": ["gone.py"], "digest": ""}', '{"sources": 1}'])
def test_a_library_that_is_not_whole_is_left_alone(manifest: str | None, tmp_path: Path) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    assert compiled_libraries(tmp_path, tmp_path) == {}


def test_what_cannot_be_compiled_is_named_and_leaves_no_library(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("def answer() -> int:\n    return 'a word'\n")
    with pytest.raises(CompileError, match=r"headers|wrong\.py:2: error: Incompatible return value"):
        compile_modules(("wrong",), (), tmp_path, tmp_path / "lib")
    assert not (tmp_path / "lib").exists()


def test_every_module_of_the_list_is_there() -> None:
    assert [module for module in MODULES if not source_of(module).is_file()] == []


def heirs(kind: type[object]) -> Iterator[type[object]]:
    for heir in type.__subclasses__(kind):
        yield heir
        yield from heirs(heir)


def test_no_heir_in_plain_python_gives_another_value_to_an_attribute_of_a_compiled_class() -> None:
    """Compiled code would read the compiled class's own: such heirs belong on the list, or the attribute becomes a property."""
    for found in pkgutil.walk_packages(data_plane.__path__, "data_plane."):
        if not found.name.endswith("__main__"):
            import_module(found.name)
    kinds = [kind for name in MODULES for kind in vars(import_module(name)).values() if inspect.isclass(kind)]
    plain = {heir for kind in kinds if kind.__module__ in MODULES for heir in heirs(kind) if heir.__module__ not in MODULES}
    wrong = [
        f"{heir.__module__}.{heir.__qualname__}.{name}"
        for heir in plain
        for name, value in vars(heir).items()
        if not (name.startswith("__") or callable(value) or inspect.isdatadescriptor(value))
        and any(name in vars(base) for base in heir.__mro__[1:] if base.__module__ in MODULES)
    ]
    assert wrong == []


def test_other_modules_are_not_the_finders_business() -> None:
    assert CompiledFinder({"a.b": Path("b.so")}).find_spec("a") is None


def test_a_variable_asks_for_plain_python() -> None:
    program = "import shared, sys; from shared.compiled.finder import is_compiled; print(is_compiled())"
    environment = {**os.environ, "WASPGATE_PURE_PYTHON": "1"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout == "False\n"
