"""From YAML to the same JSON documents that shared/schema/document.py reads, and back.

The law: what a scalar is, YAML 1.2's JSON schema says: `on`, `yes` and `1_000` are text. No key stands twice in a mapping,
nothing has a tag, and what anchors repeat is bounded, so that a small file cannot become a large document. Errors say where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from shared.schema.document import MAX_DEPTH, DocumentError, check_depth

# Values in one document, with those that aliases repeat: 100,000 routes have fewer.
MOST_VALUES = 5_000_000

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?[0-9]+\.[0-9]*([eE][-+][0-9]+)?")
_WORDS: dict[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
# libyaml's parser is ten times as fast, where it is built in.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def decode_yaml(data: bytes) -> Any:  # noqa: ANN401 - a document may be anything
    """The document; None for an empty file. Raises DocumentError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        document = _Reader(text).document()
    except yaml.MarkedYAMLError as error:
        raise DocumentError(_marked(error)) from error
    except yaml.YAMLError as error:
        raise DocumentError(str(error).replace("\n", " ")) from error
    check_depth(document)
    return document


def encode_yaml(document: object) -> str:
    """Properties in the order of the document; the same document comes out of `decode_yaml`."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, without aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    # What is no printable character would be written as it is, and line ends of Unicode read as others.
    plain = value.replace("\n", "").isprintable()
    style = '"' if not plain else "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


class _Reader:
    """Of one text. Its events are read and not its nodes: to make those the parser's own recursion knows no bound."""

    __slots__ = ("_anchors", "_events", "_values")

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        # What an anchor stands for, and how many values that are.
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def document(self) -> Any:  # noqa: ANN401 - a document may be anything
        """Of several documents the first one, when the others are not empty an error."""
        found: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.NodeEvent):
                if found:
                    raise DocumentError(_at(event, "a second document"))
                found.append(self._value(event, 1))
        return found[0] if found else None

    def _value(self, event: yaml.Event, depth: int) -> Any:  # noqa: ANN401 - a document may be anything
        before = self._values
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        value = self._own(event, depth)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = value, self._values - before
        return value

    def _own(self, event: yaml.Event, depth: int) -> Any:  # noqa: ANN401 - a document may be anything
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if depth > MAX_DEPTH:
            raise DocumentError(_at(event, f"nested deeper than {MAX_DEPTH} levels"))
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise DocumentError(_at(event, f"a tag ({tag[:40]}), which has no meaning here"))
        return self._sequence(depth) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(depth)

    def _alias(self, event: yaml.AliasEvent) -> Any:  # noqa: ANN401 - a document may be anything
        if event.anchor not in self._anchors:
            raise DocumentError(_at(event, f"there is no anchor {event.anchor} before this"))
        value, size = self._anchors[event.anchor]
        self._count(event, size)
        # Within another value it may be deeper than it was: what is decoded is looked at as a whole.
        return value

    def _count(self, event: yaml.Event, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise DocumentError(_at(event, f"more than {MOST_VALUES} values"))

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        document: dict[str, Any] = {}
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise DocumentError(_at(key, "a key must be a text"))
            if key.value == "<<" and key.implicit[0]:
                raise DocumentError(_at(key, "merge keys (<<) are not of YAML 1.2: write the properties"))
            if key.value in document:
                raise DocumentError(_at(key, f"duplicate key {key.value!r}"))
            document[key.value] = self._value(next(self._events), depth + 1)
        return document


def _scalar(event: yaml.ScalarEvent) -> object:
    text: str = event.value
    if event.tag is not None:
        raise DocumentError(_at(event, f"a tag ({event.tag[:40]}), which has no meaning here"))
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) < 400:
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise DocumentError(_at(event, f"number out of range: {text[:32]}"))
        return number
    return text


def _at(event: yaml.Event, problem: str) -> str:
    mark = event.start_mark
    return problem if mark is None else f"{problem} at line {mark.line + 1} column {mark.column + 1}"


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    words = " ".join(part for part in (error.context, error.problem) if part)
    return words if mark is None else f"{words} at line {mark.line + 1} column {mark.column + 1}"
