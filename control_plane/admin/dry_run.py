"""Asking plugins before workers have to: what a write would make them run is run in the sandbox first.

The law: a write that binds a plugin is refused when the plugin refuses the configuration, and a write that changes what a
plugin runs is refused when it does not start, or refuses a configuration that is in use. The verdict holds at the commit:
whoever binds expects the plugin unchanged and rewrites its guard, whoever changes the plugin expects that guard unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from control_plane.admin.checks import Plan
from control_plane.admin.draft import View
from control_plane.admin.modules import Modules
from control_plane.admin.references import user_kinds
from control_plane.errors import AdminError, BadRequest
from control_plane.sandbox.job import STAGES, Job, Refusal
from control_plane.sandbox.sandbox import Sandbox, SandboxError
from shared.keys import guard_key, kind_prefix, parse_resource_key, resource_key
from shared.plugin.registry import registry
from shared.schema.common import PluginConf, configuration_bytes
from shared.schema.errors import json_path
from shared.schema.plugins import AnyConf
from shared.schema.resources import Resource, parse_stored, validate
from shared.schema.wasm_plugin import WasmPluginSpec
from shared.secrets.references import has_references
from shared.store.contract import Expect, Put

# Different configurations in use that a changed plugin is tried with. Each takes it some milliseconds.
MOST_CONFIGURATIONS = 100
# What decides how a plugin starts and is configured.
STARTED_WITH = ("module", "vm_configuration", "environment", "limits", "capabilities")

PLUGINS: Final = "wasm_plugins"


@dataclass(frozen=True, slots=True)
class Use:
    """A configuration of a plugin that somebody has now."""

    resource: Resource
    id: str
    configuration: bytes


@dataclass(frozen=True, slots=True)
class DryRuns:
    store: View
    modules: Modules
    sandbox: Sandbox

    async def before_write(
        self, resource: Resource, document: dict[str, Any], previous: Mapping[str, Any] | None, object_id: str
    ) -> Plan:
        """`previous` is what need not be tried again. Raises BadRequest."""
        if resource.kind == PLUGINS:
            return await self._changed_plugin(object_id, document, previous or {})
        if resource.has_plugins:
            return await self._bound(document, previous or {})
        return Plan()

    async def _bound(self, document: dict[str, Any], previous: Mapping[str, Any]) -> Plan:
        known = previous.get("plugins")
        plan = Plan()
        for name, conf in _enabled(document.get("plugins")).items():
            if isinstance(known, dict) and known.get(name) == document["plugins"][name]:
                continue
            key = resource_key(PLUGINS, name)
            entry = await self.store.get(key)
            if entry is None:
                continue
            await self._try_bound(name, parse_stored(PLUGINS, entry.value), conf)
            plan += Plan((Expect(key, entry.mod_revision),), (Put(guard_key(PLUGINS, name), b"1"),))
        return plan

    async def _try_bound(self, name: str, spec: WasmPluginSpec, conf: PluginConf) -> None:
        # What it stands for is known to workers only.
        job = None if has_references(conf.conf) else _job(name, spec, (configuration_bytes(conf.conf),))
        refusal = None if job is None else await self._run(job)
        if refusal is not None:
            path = json_path(("plugins", name, "conf"))
            raise _refused(f"failed to check the configuration of plugin {name} err: {_reason(refusal)}", path, refusal)

    async def _changed_plugin(self, name: str, document: dict[str, Any], previous: Mapping[str, Any]) -> Plan:
        if all(document.get(part) == previous.get(part) for part in STARTED_WITH):
            return Plan()
        guard = guard_key(PLUGINS, name)
        entry = await self.store.get(guard)
        uses = {use.configuration: use async for use in self._uses(name)}
        tried = tuple(sorted(uses, key=lambda configuration: (uses[configuration].resource.kind, uses[configuration].id)))
        job = _job(name, validate(WasmPluginSpec, document), tried[:MOST_CONFIGURATIONS])
        refusal = None if job is None else await self._run(job)
        if refusal is not None:
            use = None if refusal.configuration is None else uses.get(tried[refusal.configuration])
            raise _plugin_refused(name, use, refusal)
        return Plan((Expect(guard, entry.mod_revision if entry else 0),))

    async def _uses(self, name: str) -> AsyncIterator[Use]:
        text = name.encode()
        for resource in user_kinds(PLUGINS):
            for entry in (await self.store.list(kind_prefix(resource.kind))).entries:
                key = parse_resource_key(entry.key)
                if key is None or key.kind != resource.kind or text not in entry.value:
                    continue
                try:
                    spec = parse_stored(resource.kind, entry.value)
                except ValueError:
                    # No worker runs it either.
                    continue
                conf = _enabled_confs(getattr(spec, "plugins", None)).get(name)
                if conf is not None and not has_references(conf.conf):
                    yield Use(resource, key.id, configuration_bytes(conf.conf))

    async def _run(self, job: Job) -> Refusal | None:
        try:
            return await self.sandbox.run(job, lambda: self.modules.get(job.sha256))
        except SandboxError as error:
            raise AdminError(503, {"error_msg": f"{error}; ?dry_run=false writes without asking the plugin"}) from error


def _enabled(plugins: object) -> dict[str, PluginConf]:
    """Of a validated document."""
    confs = plugins if isinstance(plugins, dict) else {}
    wasm = {name: conf for name, conf in confs.items() if registry().get(name) is None}
    return _enabled_confs({name: PluginConf.model_validate(conf) for name, conf in wasm.items()})


def _enabled_confs(confs: Mapping[str, AnyConf] | None) -> dict[str, PluginConf]:
    """Of Wasm plugins."""
    return {name: conf for name, conf in (confs or {}).items() if isinstance(conf, PluginConf) and not conf.meta.disable}


def _job(name: str, spec: WasmPluginSpec, configurations: Iterable[bytes]) -> Job | None:
    """None when there is nothing to run."""
    if spec.module is None or spec.module.sha256 is None or has_references((*spec.environment.values(), spec.vm_configuration)):
        return None
    vm_configuration = b"" if spec.vm_configuration is None else configuration_bytes(spec.vm_configuration)
    return Job(
        name,
        spec.module.sha256,
        vm_configuration,
        dict(spec.environment),
        spec.limits.model_dump(),
        None if spec.capabilities is None else tuple(sorted(spec.capabilities)),
        tuple(configurations),
    )


def _plugin_refused(name: str, use: Use | None, refusal: Refusal) -> BadRequest:
    if use is None:
        return _refused(f"plugin [{name}] does not start: {_reason(refusal)}", "$.module", refusal)
    user = f"{use.resource.singular} [{use.id}]"
    return _refused(f"plugin [{name}] does not run with its configuration in {user}: {_reason(refusal)}", "$.module", refusal)


def _reason(refusal: Refusal) -> str:
    failed = refusal.reason if "proxy_on_" in refusal.reason else f"{refusal.reason} ({STAGES[refusal.stage]})"
    said = f"; its last words: {refusal.log[-1]}" if refusal.log else ""
    return f"{failed}{said}"


def _refused(text: str, path: str, refusal: Refusal) -> BadRequest:
    mistake: dict[str, object] = {"path": path, "message": text}
    if refusal.log:
        mistake["log"] = list(refusal.log)
    return BadRequest(text, errors=[mistake])
