"""Where secrets are in a resource: what lies encrypted in the store and is never read back.

The law: secrets are the properties in `Resource.secrets`, and of each native plugin what its `encrypted` names, in its
configuration, in what a consumer says of itself, and in its metadata. A reference is no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from shared.keys import Kind, ResourceKey, resource_key
from shared.plugin.registry import registry
from shared.schema.document import decode, encode
from shared.schema.resources import RESOURCES
from shared.secrets.keyring import MARK, SCHEME, Keyring, SealError
from shared.secrets.references import is_reference, map_texts

# What is shown in place of a secret. Sent back, it means the secret that is there.
MASK: Final = "********"

# A text and its path in the document, to what shall stand there.
Change = Callable[[str, str], str]


def map_secrets(kind: Kind, object_id: str, document: dict[str, Any], change: Change) -> dict[str, Any]:
    """The document with its secret texts changed; the same object when there are none."""
    for name in RESOURCES[kind].secrets:
        document = _at(document, name.split("."), "", change)
    return map_plugin_secrets(kind, object_id, document, change)


def map_plugin_secrets(kind: Kind, object_id: str, document: dict[str, Any], change: Change) -> dict[str, Any]:
    """Only those of plugins, which stay in sight as a mask."""
    if kind == "plugin_metadata":
        mapped: dict[str, Any] = _in_plugin(object_id, document, "", change)
        return mapped
    plugins = document.get("plugins")
    if not isinstance(plugins, dict):
        return document
    confs = {name: _in_plugin(name, conf, f"plugins/{name}", change) for name, conf in plugins.items()}
    if all(confs[name] is conf for name, conf in plugins.items()):
        return document
    return {**document, "plugins": confs}


def _in_plugin(name: str, conf: Any, path: str, change: Change) -> Any:  # noqa: ANN401 - JSON
    plugin = registry().get(name)
    for field in () if plugin is None else plugin.encrypted:
        conf = _at(conf, field.split("."), path, change)
    return conf


def _at(value: Any, names: list[str], path: str, change: Change) -> Any:  # noqa: ANN401 - JSON
    """A list on the way is gone through."""
    if not names:
        return map_texts(value, path, lambda text, place: text if is_reference(text) else change(text, place))
    if isinstance(value, list):
        items = [_at(inner, names, f"{path}/{number}", change) for number, inner in enumerate(value)]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if not isinstance(value, dict) or names[0] not in value:
        return value
    inner = value[names[0]]
    mapped = _at(inner, names[1:], f"{path}/{names[0]}" if path else names[0], change)
    return value if mapped is inner else {**value, names[0]: mapped}


def sealed(keyring: Keyring, key: ResourceKey, document: dict[str, Any]) -> dict[str, Any]:
    """Raises NoKeysError when there is a secret and no key."""
    prefix = resource_key(*key)
    return map_secrets(*key, document, lambda text, path: keyring.seal(text, f"{prefix}#{path}"))


def opened(keyring: Keyring, key: str, value: bytes) -> bytes:
    """A stored value with its secrets in clear; `key` is the store's. Raises SealError, which says where."""
    if MARK not in value:
        return value

    def reveal(text: str, path: str) -> str:
        if not text.startswith(SCHEME):
            return text
        try:
            return keyring.open(text, f"{key}#{path}")
        except SealError as error:
            raise SealError(f"{path.replace('/', '.')} {error}") from error

    return encode(map_texts(decode(value), "", reveal))


# Where references may stand: by kind, the properties; of other kinds those of plugins.
_REFERRING: Mapping[Kind, tuple[str, ...]] = {
    "ssls": ("cert", "key", "certs", "keys"),
    "wasm_plugins": ("environment", "vm_configuration"),
    "secrets": ("uri", "prefix", "token", "namespace"),
}
_OF_PLUGINS = ("plugins",)


def map_references(kind: Kind, document: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The document with its references changed; the same object when there are none."""

    def each(text: str, _path: str) -> str:
        return change(text) if is_reference(text) else text

    names = tuple(document) if kind == "plugin_metadata" else _REFERRING.get(kind, _OF_PLUGINS)
    mapped = {name: map_texts(document[name], name, each) for name in names if name in document}
    return document if all(mapped[name] is document[name] for name in mapped) else {**document, **mapped}
