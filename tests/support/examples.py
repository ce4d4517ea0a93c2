"""The example plugins as `make plugins` built them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from shared.proxy_wasm import Limits, Plugin, Shared
from shared.proxy_wasm.testing.calls import Handler

BUILT = Path(__file__).resolve().parents[2] / ".build" / "plugins"


def load(
    name: str, configuration: Mapping[str, object], *, calls: Handler | None = None, shared: Shared | None = None
) -> Plugin:
    """`rust-jwt-auth` is called `jwt-auth`."""
    path = BUILT / f"{name}.wasm"
    assert path.is_file(), f"{path} is missing: run `make plugins`"
    called = name.partition("-")[2]
    # On a machine that is busy with other tests, compiling what starts the plugin counts as its time.
    limits = Limits(start_cpu_ms=5000, callback_cpu_ms=500)
    conf = json.dumps(configuration)
    return Plugin.load(path, configuration=conf, name=called, calls=calls, shared=shared, limits=limits)
