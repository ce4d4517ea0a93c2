"""What a configuration changes, shown to people.

The law: an object is one line with a sign, its differences stand under it by their JSON path; colours are for terminals only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Paint = Callable[[str, str], str]

SIGNS = {"create": ("+", "green"), "replace": ("~", "yellow"), "delete": ("-", "red")}
# Longest value in a line.
WIDTH = 100
PREFIX = "/apisix/"


def lines_of(changes: Iterable[Mapping[str, Any]], paint: Paint) -> Iterator[str]:
    for change in changes:
        sign, colour = SIGNS[change["action"]]
        yield paint(f"{sign} {str(change['key']).removeprefix(PREFIX)}", colour)
        if change["action"] == "replace":
            for difference in change.get("differences", ()):
                yield from _difference(difference, paint)
        if change.get("secrets_change"):
            yield paint("    a secret changes", "yellow")


def _difference(difference: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    path = str(difference["path"])
    if "before" in difference:
        yield paint(f"    - {path}: {_shown(difference['before'])}", "red")
    if "after" in difference:
        yield paint(f"    + {path}: {_shown(difference['after'])}", "green")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDTH else text[:WIDTH] + "..."


def summary(answer: Mapping[str, Any]) -> str:
    if not answer["changes"]:
        return "nothing changes"
    words = {"create": "created", "replace": "changed", "delete": "deleted", "unchanged": "unchanged"}
    return ", ".join(f"{answer[name]} {word}" for name, word in words.items())
