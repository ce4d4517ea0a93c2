"""Who names whom: the objects that a document refers to, and the objects that refer to one, pure.

The law: a write never leaves a reference to something that is not there, and nothing that is named is deleted without
`force`. The messages are APISIX's, because its clients match on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from shared.keys import Kind
from shared.plugin.registry import registry
from shared.schema.resources import RESOURCES, Resource

_MISSING = {
    "upstreams": "failed to fetch upstream info by upstream id [{id}], response code: 404",
    "services": "failed to fetch service info by service id [{id}], response code: 404",
    "plugin_configs": "failed to fetch plugin config info by plugin config id [{id}], response code: 404",
    "wasm_plugins": "unknown plugin [{id}]",
    "ssls": "failed to fetch ssl info by ssl id [{id}], response code: 404",
    "consumer_groups": "failed to fetch consumer group info by consumer group id [{id}], response code: 404",
}

_IN_USE = {
    "upstreams": "can not delete this upstream, {user} [{id}] is still using it now",
    "services": "can not delete this service directly, {user} [{id}] is still using it now",
    "plugin_configs": "can not delete this plugin config, {user} [{id}] is still using it now",
    "wasm_plugins": "can not delete this wasm plugin, {user} [{id}] is still using it now",
    "ssls": "can not delete this ssl, {user} [{id}] is still using it now",
    "consumer_groups": "can not delete this consumer group, {user} [{id}] is still using it now",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Something that a document names. `runs` is False for a plugin that the document only disables."""

    kind: Kind
    id: str
    runs: bool = True

    @property
    def missing(self) -> str:
        return _MISSING[self.kind].format(id=self.id)


@dataclass(frozen=True, slots=True)
class User:
    """An object that names another one."""

    resource: Resource
    id: str
    target: Target

    @property
    def in_use(self) -> str:
        return _IN_USE[self.target.kind].format(user=self.resource.singular, id=self.id)

    @property
    def needs_module(self) -> str:
        return f"can not take the module from this wasm plugin, {self.resource.singular} [{self.id}] is still using it now"


def targets(resource: Resource, document: object) -> tuple[Target, ...]:
    """All that a stored or new document names; a document of the wrong shape names nothing."""
    return tuple(_targets(resource, document)) if isinstance(document, dict) else ()


def _targets(resource: Resource, document: dict[str, Any]) -> Iterator[Target]:
    for path, kind in resource.references.items():
        found = _at(document, path)
        if found is not None:
            yield Target(kind, str(found))
    plugins = document.get("plugins")
    if resource.has_plugins and isinstance(plugins, dict):
        for name, conf in plugins.items():
            plugin = registry().get(name)
            if plugin is not None:
                yield from (Target("upstreams", id) for id in plugin.upstream_ids(conf))
                continue
            meta = conf.get("_meta") if isinstance(conf, dict) else None
            yield Target("wasm_plugins", name, not (isinstance(meta, dict) and meta.get("disable") is True))


def plugin_names(document: object) -> set[str]:
    """Of all plugins, native ones too, that a stored or new document names."""
    plugins = document.get("plugins") if isinstance(document, dict) else None
    return set(plugins) if isinstance(plugins, dict) else set()


def _at(document: object, path: str) -> object:
    """The value of a property, None where there is none."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def user_kinds(kind: Kind) -> tuple[Resource, ...]:
    """The kinds whose objects may name an object of this kind."""
    return tuple(
        resource
        for resource in RESOURCES.values()
        if kind in resource.references.values() or (kind in ("wasm_plugins", "upstreams") and resource.has_plugins)
    )


def first_user(
    kind: Kind, object_id: str, stored: Iterable[tuple[Resource, str, object]], *, running: bool = False
) -> User | None:
    """The first of the stored (resource, id, document) that names the object; `running` skips disabled uses."""
    for resource, user_id, document in stored:
        for target in targets(resource, document):
            if target.kind == kind and target.id == object_id and (target.runs or not running):
                return User(resource, user_id, target)
    return None
