"""What a PluginVM needs of whoever runs it: its settings, the owner of each stream, and the observer of it all.

The law: none of this is the VM's own, and nothing here may call back into it while it is being told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.foreign.registry import ForeignFunctions
from shared.proxy_wasm.limits import Limits
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.properties import StreamFacts

if TYPE_CHECKING:
    from shared.proxy_wasm.vm import HttpContext, PluginContext


@dataclass(frozen=True, slots=True)
class VmSettings:
    """`log_level` is the lowest level that reaches the observer, `node` the host's name, for plugins that ask."""

    plugin_name: str
    limits: Limits = Limits()
    vm_configuration: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    log_level: LogLevel = LogLevel.INFO
    foreign: ForeignFunctions = field(default_factory=ForeignFunctions)
    node: str = ""
    dialect: Literal["proxy-wasm", "apisix"] = "proxy-wasm"


class StreamOwner(Protocol):
    """Whoever drives a stream through its plugins."""

    @property
    def facts(self) -> StreamFacts: ...

    def plugin_properties(self) -> dict[bytes, bytes]:
        """What plugins have set with proxy_set_property on this request, by path; shared by all of them."""


class VmObserver(Protocol):
    """Whoever owns the VM. Nothing here may call back into the VM."""

    def log(self, level: LogLevel, context_id: int, message: str) -> None: ...

    def effects(self, stream: HttpContext, outcome: Outcome) -> None:
        """Another context's callback acted on this stream: perform it after the current call."""

    def set_tick_period(self, plugin_context: PluginContext, milliseconds: int) -> None:
        """0: no ticks; also told when the context is gone."""

    def done(self, plugin_context: PluginContext) -> None:
        """The plugin called proxy_done on a context whose on_done had answered false: delete it now."""
