"""How a plugin can fail: its module, a call into it, its VM, or its own answer."""

from __future__ import annotations


class EngineError(Exception):
    """The module cannot be compiled, linked or instantiated."""


class GuestTrap(Exception):
    """The guest failed in a call. `code` is wasmtime's name for it in lower case, such as `interrupt` or `unreachable`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class VmFailed(Exception):
    """The VM is gone. `code` as in GuestTrap; the message says what happened in it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamFailed(VmFailed):
    """One stream must go no further; its VM lives on."""


class PluginRefused(Exception):
    """The plugin answered false: `stage` is `vm_start` or `configure`. The VM lives on without this PluginContext."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"the plugin answered false to proxy_on_{stage}")
        self.stage = stage


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
