"""Every example under plugins/ is built by `make plugins`, listed with the others, and explained."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
# A plugin's folder has a README; what plugins of a language share has none.
FOLDERS = sorted(path.parent for path in PLUGINS.glob("*/*/README.md"))
NAMES = [f"{folder.parent.name}-{folder.name}" for folder in FOLDERS]


@pytest.fixture(scope="module")
def built() -> set[str]:
    """What `make plugins` would have built, by make's own account."""
    told = subprocess.run(
        ["make", "--dry-run", "--always-make", "--no-print-directory", "plugins"], cwd=ROOT, capture_output=True, check=True
    )
    return set(re.findall(r"\.build/plugins/([\w-]+)\.wasm", told.stdout.decode()))


def test_all_are_built_and_no_others(built: set[str]) -> None:
    assert built == set(NAMES)


@pytest.mark.parametrize(("name", "folder"), list(zip(NAMES, FOLDERS, strict=True)), ids=NAMES)
def test_each_has_a_row_among_the_others(name: str, folder: Path) -> None:
    path = folder.relative_to(PLUGINS)
    assert f"| [{path}]({path}) | `.build/plugins/{name}.wasm` |" in (PLUGINS / "README.md").read_text()
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}, in ")
