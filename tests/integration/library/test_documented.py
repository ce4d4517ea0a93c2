"""The examples of docs/library.md are tests: they run as they stand, with the greeting in C."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import shared.proxy_wasm

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/library.md").read_text()
MODULE = ROOT / ".build" / "plugins" / "c-greeting.wasm"


def examples() -> dict[str, Callable[[], None]]:
    names: dict[str, object] = {"MODULE": MODULE}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/library.md", "exec"), names)
    return {name: value for name, value in names.items() if name.startswith("test_") and callable(value)}


@pytest.mark.parametrize("name", examples())
def test_an_example_runs(name: str) -> None:
    assert MODULE.is_file(), f"{MODULE} is missing: run `make plugins`"
    examples()[name]()


def test_the_page_names_what_is_public() -> None:
    assert [name for name in shared.proxy_wasm.__all__ if not re.search(rf"\b{name}\b", PAGE)] == []
