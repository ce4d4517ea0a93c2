"""A whole configuration as one document, in the layout of APISIX's standalone file: a list of objects per kind.

The law: what is read back and written again changes nothing, although no secret is read back: an object that says nothing of a
secret keeps the one that it has. An object that stays as it is keeps its revision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from control_plane.admin.answers import public
from control_plane.admin.completion import check_name
from control_plane.admin.draft import Draft
from control_plane.admin.hidden import meant
from control_plane.admin.operations import Change, Operation, Removal, Write
from control_plane.admin.paths import checked_id, missing_id
from control_plane.admin.refusal import MISTAKES
from control_plane.admin.stored import own_part, stored_object, without
from control_plane.errors import BadRequest, refusal_of
from shared.keys import CONFIG_PREFIX, IN_TWO_PARTS, KINDS, Kind, ResourceKey, parse_resource_key
from shared.schema.document import encode
from shared.schema.errors import excerpt, json_type
from shared.schema.resources import BOOKKEEPING, RESOURCES, Resource, validate
from shared.store.contract import Entry

VERSION = "_conf_version"
# What a client of APISIX sends of an object beside the object.
BESIDE = ("modifiedIndex", "createdIndex", *BOOKKEEPING)
# Sections that APISIX's clients do not know: without a word about them they stay.
OURS: frozenset[Kind] = frozenset({"wasm_plugins"})

# What happens to objects that a document does not have: deleted; deleted in the sections that it has; left alone.
Prune = Literal["all", "sections", "none"]


@dataclass(frozen=True, slots=True)
class Present:
    """All objects at one revision."""

    revision: int
    objects: Mapping[ResourceKey, Entry]

    def of(self, kind: Kind) -> dict[str, Entry]:
        return {key.id: entry for key, entry in self.objects.items() if key.kind == kind}

    def newest(self, kind: Kind) -> int:
        return max((entry.mod_revision for entry in self.of(kind).values()), default=0)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One object that is refused, at its place in the document."""

    kind: str
    id: str | None
    index: int | None
    error: str
    path: str

    def document(self) -> dict[str, object]:
        fields = {
            "resource_type": self.kind,
            "resource_id": self.id,
            "index": self.index,
            "error": self.error,
            "path": self.path,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Section:
    """Of a document: ids and what they shall be, in its order; `places` are the objects' numbers."""

    resource: Resource
    objects: Mapping[str, dict[str, Any]]
    places: Mapping[str, int]


async def read_present(draft: Draft) -> Present:
    """What it has read the draft knows."""
    listing = await draft.list(CONFIG_PREFIX)
    objects: dict[ResourceKey, Entry] = {}
    for entry in listing.entries:
        key = parse_resource_key(entry.key)
        if key is not None:
            objects[key] = entry
            draft.know(entry)
    return Present(listing.revision, objects)


def document_of(present: Present) -> dict[str, list[dict[str, Any]]]:
    """Sections in the order of kinds, objects in that of their ids; kinds without objects are left out."""
    document: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        entries = present.of(kind)
        shown = [_shown(RESOURCES[kind], id, entries[id]) for id in sorted(entries)]
        objects = [item for item in shown if item is not None]
        if objects:
            document[kind] = objects
    return document


def _shown(resource: Resource, object_id: str, entry: Entry) -> dict[str, Any] | None:
    """None for what is no object of ours."""
    stored = stored_object(entry)
    if not stored:
        return None
    own = public(resource, object_id, own_part(stored))
    assert isinstance(own, dict)
    return own if resource.id_property != "id" else {"id": object_id, **own}


def content_digest(document: Mapping[str, object]) -> str:
    return hashlib.sha256(encode(document)).hexdigest()


def read_sections(document: object) -> tuple[dict[Kind, Section], dict[Kind, int], list[Mistake]]:
    """The sections, their versions as the client counts them, and what is wrong with their form."""
    if not isinstance(document, dict):
        raise BadRequest(f"invalid configuration: wrong type: expected object, got {json_type(document)}")
    mistakes: list[Mistake] = []
    sections: dict[Kind, Section] = {}
    versions: dict[Kind, int] = {}
    for name, value in document.items():
        kind = _kind(name.removesuffix(VERSION))
        if kind is None:
            mistakes.append(Mistake(name, None, None, f"unknown section, known are {', '.join(KINDS)}", f"$.{name}"))
        elif name.endswith(VERSION):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise BadRequest(f"{name} must be a number", errors=[{"path": f"$.{name}", "message": "must be a number"}])
            versions[kind] = value
        elif isinstance(value, list):
            sections[kind] = _section(RESOURCES[kind], value, mistakes)
        elif value is not None:
            mistakes.append(Mistake(name, None, None, f"wrong type: expected array, got {json_type(value)}", f"$.{name}"))
        else:
            sections[kind] = Section(RESOURCES[kind], {}, {})
    return sections, versions, mistakes


def _kind(name: str) -> Kind | None:
    return next((kind for kind in KINDS if kind == name), None)


def _section(resource: Resource, items: list[Any], mistakes: list[Mistake]) -> Section:
    objects: dict[str, dict[str, Any]] = {}
    places: dict[str, int] = {}
    for index, item in enumerate(items):
        try:
            object_id = _id_of(resource, item)
            if object_id in objects:
                raise BadRequest(f"found duplicate id {object_id} in {resource.kind}")
        except BadRequest as error:
            text = str(error.body["error_msg"])
            mistakes.append(Mistake(resource.kind, None, index, text, f"$.{resource.kind}[{index}]"))
            continue
        beside = BESIDE if resource.id_property == "id" else tuple(name for name in BESIDE if name != "id")
        objects[object_id] = without(item, beside)
        places[object_id] = index
    return Section(resource, objects, places)


def _id_of(resource: Resource, item: object) -> str:
    if not isinstance(item, dict):
        raise BadRequest(f"wrong type: expected object, got {json_type(item)}")
    given = item.get(resource.id_property)
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise missing_id(resource)
    inner = IN_TWO_PARTS.get(resource.kind, ("", None))[1]
    # As APISIX writes it: jack/credentials/one.
    return checked_id(resource, str(given).replace(f"/{inner}/", "/", 1) if inner else str(given))


def check_sections(sections: Mapping[Kind, Section], present: Present) -> Iterator[Mistake]:
    """What each object's own schema says, and its plugins'; not whether what it names is there."""
    for section in sections.values():
        resource, stored = section.resource, present.of(section.resource.kind)
        for object_id, document in section.objects.items():
            previous = own_part(stored_object(stored[object_id])) if object_id in stored else None
            try:
                wanted = meant(resource.kind, object_id, becoming(resource, document)(previous), previous)
                validate(resource.model, wanted)
                assert isinstance(wanted, dict)
                check_name(resource, object_id, wanted)
            except MISTAKES as error:
                yield from mistakes_of(section, object_id, error)


def mistakes_of(section: Section, object_id: str, error: Exception) -> Iterator[Mistake]:
    body = refusal_of(error).body
    index = section.places.get(object_id)
    found = body.get("errors")
    listed = (
        found if isinstance(found, list) and found else [{"path": "$", "message": body.get("error_msg", body.get("message"))}]
    )
    for mistake in listed:
        path = f"$.{section.resource.kind}[{index}]{str(mistake['path'])[1:]}"
        yield Mistake(section.resource.kind, object_id, index, str(mistake["message"]), path)


def prune_of(text: str) -> Prune:
    """Raises BadRequest."""
    for mode in get_args(Prune):
        if mode == text:
            return mode  # type: ignore[no-any-return]  # one of Prune
    raise BadRequest(f"invalid argument prune: expected all, sections or none, got {excerpt(text)}")


def operations_of(
    sections: Mapping[Kind, Section], present: Present, prune: Prune, settled: Collection[Kind]
) -> list[Operation]:
    """From what is there to the document; `settled` kinds stay as they are."""
    operations: list[Operation] = []
    for kind in (kind for kind in KINDS if kind not in settled):
        resource, section = RESOURCES[kind], sections.get(kind)
        wanted = {} if section is None else section.objects
        operations += [Write(resource, object_id, becoming(resource, document)) for object_id, document in wanted.items()]
        deletes = prune != "none" if section is not None else prune == "all" and kind not in OURS
        if deletes:
            operations += [Removal(resource, object_id) for object_id in present.of(kind) if object_id not in wanted]
    return operations


def becoming(resource: Resource, document: dict[str, Any]) -> Change:
    def change(previous: dict[str, Any] | None) -> object:
        if previous is None:
            return document
        changed = document
        for path in resource.secrets:
            changed = _with_secret(changed, previous, path.split("."))
        # A module that was uploaded is no part of a document unless the document says so.
        kept = {"module": previous["module"]} if resource.kind == "wasm_plugins" and "module" in previous else {}
        return {**kept, **changed}

    return change


def _with_secret(document: dict[str, Any], previous: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """With the property that the document leaves out and the object has."""
    name, *rest = path
    if name not in previous:
        return document
    if not rest:
        return document if name in document else {**document, name: previous[name]}
    inner, before = document.get(name), previous[name]
    if not isinstance(inner, dict) or not isinstance(before, Mapping):
        return document
    return {**document, name: _with_secret(inner, before, rest)}


def next_versions(given: Mapping[Kind, int], current: Mapping[Kind, int]) -> dict[Kind, int]:
    """Raises BadRequest for one that goes back."""
    versions: dict[Kind, int] = {}
    for kind in KINDS:
        now = current[kind]
        versions[kind] = given.get(kind, now + 1)
        if versions[kind] < now:
            text = f"{kind}{VERSION} must be greater than or equal to ({now})"
            raise BadRequest(text, errors=[{"path": f"$.{kind}{VERSION}", "message": text}])
    return versions
