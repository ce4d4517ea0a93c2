"""YAML as JSON has it: text to objects, arrays, strings, numbers, booleans and null, and nothing else.

The law: whatever is wrong is one line that says where. Of YAML's scalars `true`, `false`, `null`, `~` and numbers are what
they look like, and everything else is a string (`on`, `2024-01-01`, `1:30`), as in YAML 1.2. No key is written twice.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX: Final = "tag:yaml.org,2002:"
_SCALARS: Final = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$", "-+0123456789."),
    ("merge", r"^<<$", "<"),
)


class YamlError(ValueError):
    """Text that is not YAML, or says what JSON cannot."""


class _Loader(_BASE):  # type: ignore[misc]  # one of two classes
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name and use

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ANN401 - PyYAML's
        seen: set[object] = set()
        for key, _ in node.value:
            if key.tag in (f"{_PREFIX}map", f"{_PREFIX}seq"):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a string", key.start_mark)
            if key.tag != f"{_PREFIX}merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is written twice", key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}

    def refuse(self, node: Any) -> None:  # noqa: ANN401 - PyYAML has no types
        raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag!r} has no meaning here", node.start_mark)


def _float(loader: Any, node: Any) -> float:  # noqa: ANN401 - PyYAML has no types
    return float(loader.construct_scalar(node))


def _int(loader: Any, node: Any) -> int:  # noqa: ANN401 - PyYAML has no types
    return int(loader.construct_scalar(node))


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"{_PREFIX}{_tag}", re.compile(_pattern), list(_first))
_Loader.add_implicit_resolver(f"{_PREFIX}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor(f"{_PREFIX}map", _Loader.construct_mapping)
_Loader.add_constructor(f"{_PREFIX}float", _float)
_Loader.add_constructor(f"{_PREFIX}int", _int)
for _tag in ("binary", "timestamp", "omap", "pairs", "set"):
    _Loader.add_constructor(f"{_PREFIX}{_tag}", _Loader.refuse)


def parse_yaml(text: str) -> Any:  # noqa: ANN401 - a YAML text may be anything
    """What one document says; None for an empty text. Raises YamlError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" at line {mark.line + 1} column {mark.column + 1}"
        raise YamlError(f"{error.problem or error.context}{where}") from error
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except (RecursionError, ValueError) as error:
        raise YamlError("nested too deeply" if isinstance(error, RecursionError) else str(error)) from error
