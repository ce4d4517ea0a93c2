"""Running a job: the plugin started and configured as a worker would, in a VM that is thrown away.

The law: whatever the module does, `run` answers; the VM is gone afterwards. A module is compiled once while it is among the
last few that were asked for.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from control_plane.sandbox.alone import Alone
from control_plane.sandbox.job import Job, Refusal, Stage
from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.binary import ModuleError
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import EngineError, PluginRefused, VmFailed
from shared.proxy_wasm.foreign.registry import ForeignFunctions, installed
from shared.proxy_wasm.instance import GuestModule
from shared.proxy_wasm.limits import Limits
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import HttpContext, PluginContext, PluginVM, VmSettings

# Compiled modules kept. A large Go plugin takes about 20 MiB.
KEPT_MODULES = 8
# Of a plugin's last words: so many lines, and so many characters of each.
LOG_LINES = 20
LOG_CHARACTERS = 1000


class Unknown(Exception):
    """The module's bytes are needed first."""


class Listener:
    """A VM's observer that keeps the last log lines. Effects, timers and ends concern nobody here."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LOG_LINES)

    def log(self, level: LogLevel, context_id: int, message: str) -> None:
        self.lines.append(message[:LOG_CHARACTERS])

    def effects(self, stream: HttpContext, outcome: Outcome) -> None:
        pass

    def set_tick_period(self, plugin_context: PluginContext, milliseconds: int) -> None:
        pass

    def done(self, plugin_context: PluginContext) -> None:
        pass


class Trials:
    """One for each process."""

    def __init__(self) -> None:
        self._engine = Engine()
        # Those that workers on this host would have.
        self._foreign = ForeignFunctions(installed(), _not_delivered)
        self._modules: OrderedDict[object, GuestModule] = OrderedDict()

    def run(self, job: Job, data: bytes = b"") -> Refusal | None:
        """None: the plugin runs with every configuration. Raises Unknown when the module was never seen, or forgotten."""
        listener = Listener()
        try:
            module = self._module(job, data)
            alone = Alone()
            vm = PluginVM(self._engine, module, self._settings(job), listener, alone, callouts=alone)
        except (ModuleError, EngineError, VmFailed) as error:
            return Refusal("start", str(error), tuple(listener.lines))
        try:
            if not job.configurations:
                return _configured(vm, listener, None, b"")
            for index, configuration in enumerate(job.configurations):
                refusal = _configured(vm, listener, index, configuration)
                if refusal is not None:
                    return refusal
            return None
        finally:
            vm.close()

    def _module(self, job: Job, data: bytes) -> GuestModule:
        key = job.sha256, job.capabilities
        module = self._modules.get(key)
        if module is None:
            if not data:
                raise Unknown
            capabilities = None if job.capabilities is None else frozenset(job.capabilities)
            module = self._modules[key] = self._engine.compile(data, capabilities)
            if len(self._modules) > KEPT_MODULES:
                self._modules.popitem(last=False)
        self._modules.move_to_end(key)
        return module

    def _settings(self, job: Job) -> VmSettings:
        limits = Limits(**job.limits)
        return VmSettings(job.plugin, limits, job.vm_configuration, job.environment, foreign=self._foreign)


def _not_delivered(plugin_context: PluginContext, function: int, arguments: bytes) -> None:
    """An event of a foreign function would come after the callback: nothing comes after a dry run."""


def _configured(vm: PluginVM, listener: Listener, index: int | None, configuration: bytes) -> Refusal | None:
    stage: Stage = "vm_start"
    if index:
        # The first one's also has what was said when the module started.
        listener.lines.clear()
    try:
        root = vm.start_root(configuration)
        if index is not None:
            stage = "configure"
            vm.configure_root(root)
    except (PluginRefused, VmFailed, OverflowError) as error:
        return Refusal(stage, str(error), tuple(listener.lines), index)
    return None
