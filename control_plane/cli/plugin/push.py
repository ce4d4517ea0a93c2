"""`waspgate plugin push`: a module to a running gateway by its Admin API, and an answer when its workers have it.

The law: the gateway decides whether the module is a plugin, and knows which workers there are: `?wait=applied` answers when
every one of them serves the module, or says which cannot and why.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from control_plane.cli.admin_client import AdminClient
from control_plane.cli.settings import Settings

WASM = "application/wasm"


def push(
    settings: Settings, name: str, module: bytes, vm_configuration: str | None, seconds: float | None
) -> tuple[dict[str, Any], int | None]:
    """What the gateway says of the module, and how many workers have it; `seconds` is how long to wait for them, None for not
    at all. Raises CommandError."""
    api = AdminClient(settings)
    plugin = f"wasm_plugins/{quote(name, safe='')}"
    wait = "" if seconds is None else f"?wait=applied&timeout={seconds:g}"
    answer = api.call("PUT", f"{plugin}/module{wait if vm_configuration is None else ''}", module, WASM)
    if vm_configuration is None:
        return answer.document, answer.workers
    change = json.dumps({"vm_configuration": vm_configuration}).encode()
    return answer.document, api.call("PATCH", f"{plugin}{wait}", change).workers
