"""What a dry run is asked, and what it answers.

The law: a job says everything that a worker would start the plugin with, and nothing else; so two equal jobs have one answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

Stage = Literal["start", "vm_start", "configure"]
# What a stage is called towards people.
STAGES: dict[Stage, str] = {
    "start": "at its start",
    "vm_start": "in proxy_on_vm_start",
    "configure": "in proxy_on_configure",
}


@dataclass(frozen=True, slots=True)
class Job:
    """Start the module; then make a PluginContext for each configuration. Without any, one that is started only."""

    plugin: str
    sha256: str
    vm_configuration: bytes
    environment: dict[str, str]
    limits: dict[str, int]
    capabilities: tuple[str, ...] | None = None
    configurations: tuple[bytes, ...] = ()

    def document(self) -> dict[str, Any]:
        texts = {"vm_configuration": _text(self.vm_configuration), "configurations": [_text(c) for c in self.configurations]}
        return {**asdict(self), **texts}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Job:
        configurations = tuple(base64.b64decode(text) for text in document["configurations"])
        allowed = document["capabilities"]
        decoded = {
            "vm_configuration": base64.b64decode(document["vm_configuration"]),
            "capabilities": None if allowed is None else tuple(allowed),
            "configurations": configurations,
        }
        return cls(**{**document, **decoded})

    @property
    def identity(self) -> bytes:
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).digest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the plugin cannot run so. `configuration` is the index of the one that it failed with; `log` its last lines."""

    stage: Stage
    reason: str
    log: tuple[str, ...] = ()
    configuration: int | None = None
