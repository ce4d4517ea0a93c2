"""Plugins for tests in Go: one file beside plugins/go's own packages, built by the Go of `make plugins` and kept by digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.guest import BUILT, ROOT, SOURCES

MODULE = ROOT / "plugins" / "go"
COMMAND = ("build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w")


def build_go(name: str) -> bytes:
    """The source is guest_sources/NAME.go."""
    source = SOURCES / f"{name}.go"
    digest = hashlib.sha256("\0".join(COMMAND).encode())
    for path in (source, MODULE / "go.mod", *sorted(MODULE.glob("proxywasm/*.go"))):
        digest.update(path.read_bytes())
    output = BUILT / f"{digest.hexdigest()}.wasm"
    if not output.is_file():
        BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as scratch:
            folder = Path(scratch)
            shutil.copytree(MODULE / "proxywasm", folder / "proxywasm")
            shutil.copy(MODULE / "go.mod", folder)
            shutil.copy(source, folder / "main.go")
            go = Path(sys.executable).parent / "go"
            environment = {"GOCACHE": str(ROOT / ".build" / "go-cache"), "GOPATH": str(ROOT / ".build" / "go"), **os.environ}
            environment |= {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local"}
            subprocess.run([str(go), *COMMAND, "-o", "guest.wasm", "."], cwd=folder, env=environment, check=True)
            (folder / "guest.wasm").replace(output)
    return output.read_bytes()
