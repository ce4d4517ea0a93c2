"""A Proxy-Wasm host, and a library to try plugins with: load a module, send it requests, look at what it did.

    from shared.proxy_wasm import Plugin

    with Plugin.load("greeting.wasm", configuration='{"value": "hello"}') as plugin:
        assert plugin.request(path="/").response.headers["x-greeting"] == "hello"

The law: what stands in `__all__` is for others, and described in docs/library.md; the rest is the gateway's own. Names are
looked up when they are used, so that the gateway's processes do not import what only tests need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.proxy_wasm.abi import LogLevel, Status
    from shared.proxy_wasm.binary import ModuleError
    from shared.proxy_wasm.failures import EngineError, PluginRefused, VmFailed
    from shared.proxy_wasm.limits import Limits
    from shared.proxy_wasm.testing.calls import GrpcCall, HttpCall
    from shared.proxy_wasm.testing.course import LocalReply
    from shared.proxy_wasm.testing.facts import Facts
    from shared.proxy_wasm.testing.memory import Metric, Shared
    from shared.proxy_wasm.testing.messages import Headers, Request, Response
    from shared.proxy_wasm.testing.plugin import Log, Plugin, Refused
    from shared.proxy_wasm.testing.stream import Missing, Stream
    from shared.proxy_wasm.trace.transcript import Transcript

__all__ = [
    "EngineError",
    "Facts",
    "GrpcCall",
    "Headers",
    "HttpCall",
    "Limits",
    "LocalReply",
    "Log",
    "LogLevel",
    "Metric",
    "Missing",
    "ModuleError",
    "Plugin",
    "PluginRefused",
    "Refused",
    "Request",
    "Response",
    "Shared",
    "Status",
    "Stream",
    "Transcript",
    "VmFailed",
]

_MODULES = {
    "abi": ("LogLevel", "Status"),
    "binary": ("ModuleError",),
    "failures": ("EngineError", "PluginRefused", "VmFailed"),
    "limits": ("Limits",),
    "testing.calls": ("GrpcCall", "HttpCall"),
    "testing.facts": ("Facts",),
    "testing.memory": ("Metric", "Shared"),
    "testing.messages": ("Headers", "Request", "Response"),
    "testing.plugin": ("Log", "Plugin", "Refused"),
    "testing.course": ("LocalReply",),
    "testing.stream": ("Missing", "Stream"),
    "trace.transcript": ("Transcript",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
