"""What an answer shows of a resource, and what a document means that was made from an answer.

The law: no secret is read back. A resource's own secrets are left out; those of its plugins are masked, so that it is seen that
they are there. A document that sends a mask back keeps the secret which is there; a mask where there is none is refused.
"""

from __future__ import annotations

from typing import Any

from control_plane.errors import BadRequest
from shared.keys import Kind
from shared.schema.errors import json_path
from shared.schema.resources import RESOURCES
from shared.secrets.keyring import SCHEME
from shared.secrets.places import MASK, map_plugin_secrets, map_secrets
from shared.secrets.references import map_texts


def public(kind: Kind, object_id: str, value: object) -> object:
    """What is no object of ours may be all secret."""
    secrets = RESOURCES[kind].secrets
    if not isinstance(value, dict):
        return None if secrets else value
    for path in secrets:
        value = _without(value, path.split("."))
    return map_plugin_secrets(kind, object_id, value, lambda _text, _path: MASK)


def meant(kind: Kind, object_id: str, document: object, previous: dict[str, Any] | None) -> object:
    """The document with the secrets of `previous`, which is in clear, in place of masks. Raises BadRequest."""
    if not isinstance(document, dict):
        return document
    there: dict[str, str] = {}

    def collect(text: str, path: str) -> str:
        there[path] = text
        return text

    map_secrets(kind, object_id, previous or {}, collect)

    def restore(text: str, path: str) -> str:
        if text != MASK:
            return text
        if path not in there:
            raise _refused(path, f"{MASK} stands for the secret that is there, and there is none")
        return there[path]

    restored = map_secrets(kind, object_id, document, restore)
    map_texts(restored, "", _check_open)
    return restored


def _check_open(text: str, path: str) -> str:
    if text.startswith(SCHEME):
        raise _refused(path, f"a text that begins with {SCHEME} is what the store holds of a secret whose key is missing here")
    return text


def _refused(path: str, text: str) -> BadRequest:
    where = json_path(tuple(int(part) if part.isdecimal() else part for part in path.split("/")))
    return BadRequest(f"invalid configuration: {where}: {text}", errors=[{"path": where, "message": text}])


def _without(document: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """A copy without the property; what is of another shape on the way to it is left out whole."""
    name, *rest = path
    if name not in document:
        return document
    inner = document[name]
    others = {key: item for key, item in document.items() if key != name}
    return {**document, name: _without(inner, rest)} if rest and isinstance(inner, dict) else others
