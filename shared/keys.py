"""Every key of the configuration store is built and parsed here, and nowhere else.

The law: configuration lives under `/apisix/` in APISIX's own layout, so that its operators recognise it; what only
Waspgate needs lives under `/waspgate/`, so that a list or a watch of the configuration never carries module bytes.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

Kind = Literal[
    "routes",
    "services",
    "upstreams",
    "plugin_configs",
    "global_rules",
    "stream_routes",
    "wasm_plugins",
    "ssls",
    "plugin_metadata",
]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CONFIG_PREFIX: Final = "/apisix/"
MODULE_PREFIX: Final = "/waspgate/modules/"
UPLOAD_PREFIX: Final = "/waspgate/module_uploads/"
CHUNK_PREFIX: Final = "/waspgate/module_chunks/"
VERSIONS_PREFIX: Final = "/waspgate/module_versions/"
GUARD_PREFIX: Final = "/waspgate/guards/"
STORE_IDENTITY: Final = "/waspgate/store_id"

_BY_NAME: Final[dict[str, Kind]] = {kind: kind for kind in KINDS}


class ResourceKey(NamedTuple):
    """The place of one resource: `/apisix/{kind}/{id}`. A tuple, as 100,000 of them are hashed at once."""

    kind: Kind
    id: str


def kind_prefix(kind: Kind) -> str:
    """The prefix under which all resources of a kind are listed."""
    return f"{CONFIG_PREFIX}{_BY_NAME[kind]}/"


def resource_key(kind: Kind, resource_id: str) -> str:
    if kind not in _BY_NAME:
        raise ValueError(f"unknown kind of resource {kind!r}, expected one of {', '.join(KINDS)}")
    if not resource_id or "/" in resource_id:
        raise ValueError(f"a resource id must be non-empty and without '/', got {resource_id!r}")
    return kind_prefix(kind) + resource_id


def parse_resource_key(key: str) -> ResourceKey | None:
    """None for all that is not one of our resources, such as the placeholders that `apisix init_etcd` writes."""
    if not key.startswith(CONFIG_PREFIX):
        return None
    name, _, resource_id = key[len(CONFIG_PREFIX) :].partition("/")
    kind = _BY_NAME.get(name)
    if kind is None or not resource_id or "/" in resource_id:
        return None
    return ResourceKey(kind, resource_id)


def generated_id(revision: int) -> str:
    """The id that POST gives: the store revision, padded so that ids sort by age."""
    return f"{revision:020d}"


def module_key(sha256: str) -> str:
    """What is known about a complete module. Its existence is what makes the module exist."""
    return MODULE_PREFIX + sha256


def upload_key(sha256: str) -> str:
    """The mark of an upload that has not finished."""
    return UPLOAD_PREFIX + sha256


def chunk_key(sha256: str, index: int) -> str:
    return f"{CHUNK_PREFIX}{sha256}/{index:04d}"


def versions_key(plugin: str) -> str:
    """The modules that a plugin has had."""
    return VERSIONS_PREFIX + plugin


def guard_key(kind: Kind, resource_id: str = "") -> str:
    """Rewritten by every write that adds a reference to a resource, so that its deletion notices a race with one."""
    return f"{GUARD_PREFIX}{kind}/{resource_id}"
