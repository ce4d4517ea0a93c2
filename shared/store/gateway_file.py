"""A whole configuration in one file, in APISIX's standalone layout: from text to the store's keys and values.

The law: a file counts whole or not at all. What is wrong with its form (YAML or JSON, sections, ids, modules) is one line
with the place, as `line 3 column 5` or `$.routes[2].id`; what is wrong with one object is for whoever reads that object.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shared.keys import IN_TWO_PARTS, KINDS, Kind, resource_key
from shared.schema.document import DocumentError, decode, encode
from shared.schema.resources import RESOURCES
from shared.store.blobs import MAX_MODULE_BYTES
from shared.yaml_document import decode_yaml

END: Final = "#END"
# APISIX's list of what is switched on: here everything is.
IGNORED: Final = ("plugins", "stream_plugins")

_VARIABLE: Final = re.compile(r"\$\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?::=([^}]*))?\}\}")
_LITERALS: Final[dict[str, object]] = {"true": True, "false": False}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?")


class GatewayFileError(ValueError):
    """One line for the operator."""


class ModuleFileError(GatewayFileError):
    """The file is good, but not one that it names."""


@dataclass(frozen=True, slots=True)
class Contents:
    """`values` by store key; `modules` are the files of Wasm modules, by the digest of what they had."""

    values: Mapping[str, bytes]
    modules: Mapping[str, Path] = field(default_factory=dict)


def is_complete(text: str) -> bool:
    """Whether the last line says that the file is written to its end."""
    return text.rstrip().endswith(END)


def read_gateway(text: str, folder: Path, *, as_json: bool, environment: Mapping[str, str] = os.environ) -> Contents:
    """`folder` is where relative module files are looked for. Blocking. Raises GatewayFileError."""
    document = _resolved(_parsed(text, as_json), environment, "$")
    if not isinstance(document, dict):
        raise GatewayFileError(f"$: expected an object of sections, got {type(document).__name__}")
    modules: dict[str, Path] = {}
    values: dict[str, bytes] = {}
    for section, items in document.items():
        if section in IGNORED:
            continue
        if section not in KINDS:
            raise GatewayFileError(f"$.{section}: unknown section, known are {', '.join(KINDS)}")
        for index, item in enumerate(_items(section, items)):
            place = f"$.{section}[{index}]"
            key = _key(section, item, index, place)
            if key in values:
                raise GatewayFileError(f"{place}: there is another one with this id before it")
            if section == "wasm_plugins":
                item = _pinned(item, folder, modules, place)
            values[key] = encode(item)
    return Contents(values, modules)


def _parsed(text: str, as_json: bool) -> Any:  # noqa: ANN401 - a text may be anything
    try:
        if not as_json:
            return decode_yaml(text.encode("utf-8", "surrogatepass")) or {}
        stripped = text.rstrip().removesuffix(END)
        return decode(stripped.encode()) if stripped.strip() else {}
    except DocumentError as error:
        raise GatewayFileError(str(error)) from error


def _items(section: str, items: object) -> list[Any]:
    if items is None:
        return []
    if not isinstance(items, list):
        raise GatewayFileError(f"$.{section}: expected an array, got {json.dumps(items)[:60]}")
    return items


def _key(kind: Kind, item: object, index: int, place: str) -> str:
    if not isinstance(item, dict):
        raise GatewayFileError(f"{place}: expected an object, got {json.dumps(item)[:60]}")
    name = RESOURCES[kind].id_property if "id" not in item else "id"
    # As APISIX names what has no name; only by its place, so that it is another one when something is put before it.
    found = item.get(name, f"arr_{index + 1}")
    if name not in item and (kind in IN_TWO_PARTS or name != "id"):
        raise GatewayFileError(f"{place}: the property {name!r} is required")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise GatewayFileError(f"{place}.{name}: expected a string or a number, got {json.dumps(found)[:60]}")
    if kind == "consumers" and isinstance(found, str) and "/credentials/" in found:
        # As APISIX writes a credential in this file.
        kind, found = "credentials", found.replace("/credentials/", "/", 1)
    try:
        return resource_key(kind, str(found))
    except ValueError as error:
        raise GatewayFileError(f"{place}.{name}: {error}") from error


def _pinned(item: dict[str, Any], folder: Path, modules: dict[str, Path], place: str) -> dict[str, Any]:
    """With the digest of its module's file."""
    module = item.get("module")
    if not isinstance(module, dict) or not isinstance(module.get("file"), str):
        return item
    path = folder / module["file"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModuleFileError(f"{place}.module.file: {path}: {error.strerror}") from error
    if len(data) > MAX_MODULE_BYTES:
        raise ModuleFileError(f"{place}.module.file: {path}: larger than the maximum size {MAX_MODULE_BYTES}")
    sha256 = hashlib.sha256(data).hexdigest()
    if module.get("sha256", sha256) != sha256:
        raise ModuleFileError(f"{place}.module.sha256: that of {path} is {sha256}")
    modules[sha256] = path
    return {**item, "module": {**module, "file": str(path.absolute()), "sha256": sha256}}


def _resolved(value: Any, environment: Mapping[str, str], place: str) -> Any:  # noqa: ANN401 - JSON
    """With `${{NAME}}` and `${{NAME:=default}}` replaced by environment variables, as APISIX does in strings."""
    if isinstance(value, dict):
        return {key: _resolved(inner, environment, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, environment, f"{place}[{index}]") for index, inner in enumerate(value)]
    if not isinstance(value, str) or "${{" not in value:
        return value
    return _typed(_VARIABLE.sub(_replacement(environment, place), value), value)


def _replacement(environment: Mapping[str, str], place: str) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environment.get(name, default)
        if found is None:
            raise GatewayFileError(f"{place}: there is no environment variable {name}")
        return found

    return replace


def _typed(text: str, before: str) -> object:
    """A string that was one variable and nothing else is a number or a boolean when it looks like one."""
    if _VARIABLE.fullmatch(before) is None:
        return text
    if _NUMBER.fullmatch(text):
        return json.loads(text)
    return _LITERALS.get(text, text)
