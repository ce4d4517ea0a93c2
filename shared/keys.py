"""Every key of the configuration store is built and parsed here, and nowhere else.

The law: configuration lives under `/apisix/` in APISIX's own layout, so that its operators recognise it; what only
Waspgate needs lives under `/waspgate/`, so that a list or a watch of the configuration never carries module bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    "secrets",
    "consumers",
    "credentials",
    "consumer_groups",
    "protos",
]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CONFIG_PREFIX: Final = "/apisix/"
MODULE_PREFIX: Final = "/waspgate/modules/"
CONSUMER_KEYS_PREFIX: Final = "/waspgate/consumer_keys/"
UPLOAD_PREFIX: Final = "/waspgate/module_uploads/"
CHUNK_PREFIX: Final = "/waspgate/module_chunks/"
VERSIONS_PREFIX: Final = "/waspgate/module_versions/"
HISTORY_PREFIX: Final = "/waspgate/history/"
# A change that one transaction cannot hold is being made (control_plane/admin/batches.py); in sight of whoever watches.
BATCH_KEY: Final = "/apisix/batch"
BATCH_PREFIX: Final = "/waspgate/batches/"
CONFIGS_KEY: Final = "/waspgate/configs/last"
GUARD_PREFIX: Final = "/waspgate/guards/"
# Who serves this configuration. Not under `/apisix/`, where every worker would have to hear what every other one says.
DATA_PLANE_PREFIX: Final = "/waspgate/data_planes/"
# Written by who waits until a change is live: workers that come to the first one say at once how far they are, and whoever
# follows the registry knows by the second one that it has heard of all that were there.
AWAITED_KEY: Final = "/apisix/data_plane/awaited"
AWAITED_MARK: Final = "/waspgate/data_planes/awaited"
STORE_IDENTITY: Final = "/waspgate/store_id"

_BY_NAME: Final[dict[str, Kind]] = {kind: kind for kind in KINDS}
# Kinds whose ids have two parts, `owner/own`: the folder of the owner, and the folder within it, if there is one.
IN_TWO_PARTS: Final[Mapping[Kind, tuple[str, str | None]]] = {
    "secrets": ("secrets", None),
    "credentials": ("consumers", "credentials"),
}
_BY_FOLDERS: Final = {folders: kind for kind, folders in IN_TWO_PARTS.items()}


class ResourceKey(NamedTuple):
    """The place of one resource: `/apisix/{kind}/{id}`. A tuple, as 100,000 of them are hashed at once.

    The id of a kind in two parts has one slash: `vault/1` is `/apisix/secrets/vault/1`.
    """

    kind: Kind
    id: str


def kind_prefix(kind: Kind) -> str:
    """The prefix under which all resources of a kind are listed; what lies inside another kind is listed with that."""
    return f"{CONFIG_PREFIX}{IN_TWO_PARTS[kind][0] if kind in IN_TWO_PARTS else _BY_NAME[kind]}/"


def resource_key(kind: Kind, resource_id: str) -> str:
    if kind not in _BY_NAME:
        raise ValueError(f"unknown kind of resource {kind!r}, expected one of {', '.join(KINDS)}")
    if kind in IN_TWO_PARTS:
        return kind_prefix(kind) + _inner_path(kind, resource_id)
    if not resource_id or "/" in resource_id:
        raise ValueError(f"a resource id must be non-empty and without '/', got {resource_id!r}")
    return kind_prefix(kind) + resource_id


def _inner_path(kind: Kind, resource_id: str) -> str:
    owner, _, own = resource_id.partition("/")
    if not owner or not own or "/" in own:
        raise ValueError(f"the id of one of the {kind} must be two non-empty parts with one '/', got {resource_id!r}")
    inner = IN_TWO_PARTS[kind][1]
    return resource_id if inner is None else f"{owner}/{inner}/{own}"


def parse_resource_key(key: str) -> ResourceKey | None:
    """None for all that is not one of our resources, such as the placeholders that `apisix init_etcd` writes."""
    if not key.startswith(CONFIG_PREFIX):
        return None
    name, _, resource_id = key[len(CONFIG_PREFIX) :].partition("/")
    if "/" in resource_id:
        return _parse_two_parts(name, resource_id.split("/"))
    kind = _BY_NAME.get(name)
    if kind is None or not resource_id or kind in IN_TWO_PARTS:
        return None
    return ResourceKey(kind, resource_id)


def _parse_two_parts(name: str, parts: list[str]) -> ResourceKey | None:
    """`owner/own` or `owner/folder/own`."""
    inner = parts[1] if len(parts) == 3 else None
    kind = _BY_FOLDERS.get((name, inner))
    if kind is None or len(parts) > 3 or not parts[0] or not parts[-1]:
        return None
    return ResourceKey(kind, f"{parts[0]}/{parts[-1]}")


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


def history_key(kind: Kind, resource_id: str) -> str:
    """What a resource has been."""
    return f"{HISTORY_PREFIX}{kind}/{resource_id}"


def consumer_keys_key(bucket: str) -> str:
    """Which consumers have a key of the bucket."""
    return CONSUMER_KEYS_PREFIX + bucket


def guard_key(kind: Kind, resource_id: str = "") -> str:
    """Rewritten by every write that adds a reference to a resource, so that its deletion notices a race with one."""
    return f"{GUARD_PREFIX}{kind}/{resource_id}"


def worker_key(data_plane: str, worker: int, pid: int) -> str:
    """The entry of one worker process of a data plane."""
    return f"{DATA_PLANE_PREFIX}{data_plane}/{worker}.{pid}"
