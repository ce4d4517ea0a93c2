"""Build hook: compiles the core before a wheel is packed, so that an installed gateway needs no compiler."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "shared/proxy_wasm"


class CoreBuildHook(BuildHookInterface[Any]):
    """Runs for `pip wheel`, `pip install` and `pip install -e` alike."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        core_build = _load_by_path(Path(self.root) / PACKAGE / "core_build.py")
        core = core_build.ensure_core()
        # git ignores both files; hatchling would leave them out like everything that git ignores.
        build_data["artifacts"] += [f"/{PACKAGE}/{name}" for name in (core.name, core_build.digest_file(core).name)]


def _load_by_path(path: Path) -> ModuleType:
    """Without importing the package around it, whose dependencies a build environment does not have."""
    spec = importlib.util.spec_from_file_location("waspgate_core_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    # A dataclass with postponed annotations looks its module up here while it is being defined.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
