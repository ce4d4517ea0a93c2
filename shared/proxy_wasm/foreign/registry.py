"""Foreign functions: what a plugin calls by name with proxy_call_foreign_function, and native code answers.

The law: a function answers at once, with its result or with the status that the plugin gets, and never calls into the VM; what
shall come later comes to the plugin through `ForeignCall.later`, as proxy_on_foreign_function. A function that raises has
failed: the plugin gets INTERNAL_FAILURE, the log the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.foreign import envoy

if TYPE_CHECKING:
    from shared.proxy_wasm.foreign.call import ForeignCall
    from shared.proxy_wasm.vm import PluginContext

ForeignFunction = Callable[["ForeignCall"], bytes | Status]
Deliver = Callable[["PluginContext", int, bytes], None]

ENTRY_POINTS = "waspgate.foreign_functions"


def installed() -> dict[str, ForeignFunction]:
    """Those that packages of this environment register: an entry point's name is the function's. Raises ValueError."""
    functions: dict[str, ForeignFunction] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            function = point.load()
        except Exception as error:  # whatever a package does when it is imported
            raise ValueError(f"foreign function {point.name} cannot be loaded from {point.value}: {error}") from error
        if not callable(function):
            raise ValueError(f"foreign function {point.name} is no function: {point.value}")
        functions[point.name] = function
    return functions


class ForeignFunctions:
    """Envoy's functions and `more`, which go first. `deliver` calls proxy_on_foreign_function after the current callback."""

    def __init__(self, more: Mapping[str, ForeignFunction] | None = None, deliver: Deliver | None = None) -> None:
        named = {**envoy.FUNCTIONS, **(more or {})}
        self._functions = {name.encode(): function for name, function in named.items()}
        self._deliver = deliver

    def get(self, name: bytes) -> ForeignFunction | None:
        return self._functions.get(name)

    def deliver(self, plugin_context: PluginContext, function: int, arguments: bytes) -> None:
        if self._deliver is None:
            raise RuntimeError("nobody delivers events of foreign functions here")
        self._deliver(plugin_context, function, arguments)
