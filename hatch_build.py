"""Build hook: compiles the core, and the hot path where that is possible, so that an installed gateway needs no compiler."""

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

    def dependencies(self) -> list[str]:
        """The gateway's own: compiling reads their types, and an isolated build would not have them."""
        return list(self.metadata.core.dependencies)

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        core_build = _load_by_path(Path(self.root) / PACKAGE / "core_build.py")
        core = core_build.ensure_core()
        # git ignores both files; hatchling would leave them out like everything that git ignores.
        build_data["artifacts"] += [f"/{PACKAGE}/{name}" for name in (core.name, core_build.digest_file(core).name)]
        if version != "editable":
            self._compile_hot_path(build_data)

    def _compile_hot_path(self, build_data: dict[str, Any]) -> None:
        """A wheel with machine code is for one interpreter and machine; without, it is for all."""
        sys.path.insert(0, self.root)
        from shared.compiled.build import CompileError, ensure_compiled

        try:
            ensure_compiled()
        except CompileError as error:
            self.app.display_warning(f"the hot path stays plain Python: {error}")
            return
        build_data["artifacts"].append("/shared/compiled/lib/")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


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
