"""Objects as they lie in the store: their documents with what the Admin API adds.

The law: what is no object of ours, as another tool's placeholder, is shown as it is, so that it can be found and deleted.
"""

from __future__ import annotations

from typing import Any

from control_plane.admin.listing import Item
from shared.keys import IN_TWO_PARTS
from shared.schema.document import DocumentError, decode
from shared.schema.resources import BOOKKEEPING, Resource
from shared.store.contract import Entry


def item_of(entry: Entry) -> Item:
    try:
        value = decode(entry.value)
    except DocumentError:
        value = entry.value.decode("utf-8", "replace")
    return Item(entry.key, value, entry.create_revision, entry.mod_revision)


def stored_object(entry: Entry | None) -> dict[str, Any]:
    value = None if entry is None else item_of(entry).value
    return value if isinstance(value, dict) else {}


def without(document: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def id_in_body(resource: Resource, object_id: str) -> str:
    """What an object says of its id: of a credential, which is its consumer's, the last part."""
    return object_id.rpartition("/")[2] if IN_TWO_PARTS.get(resource.kind, ("", None))[1] else object_id


def own_part(document: dict[str, Any]) -> dict[str, Any]:
    """Without what the Admin API adds."""
    return without(document, BOOKKEEPING)
