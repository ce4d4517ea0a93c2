"""Changes of headers that a configuration asks for, taken apart once.

The law: what is added comes first, then what is set, then what is removed, so that a name under `remove` is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from shared.plugin.fields import RequestHeaderChanges, ResponseHeaderChanges, split_line
from shared.plugin.template import Template

if TYPE_CHECKING:
    from shared.plugin.head import Head
    from shared.plugin.request import Request
    from shared.regex import Match


class HeaderEdits:
    def __init__(
        self, add: Iterable[tuple[str, str]] = (), set: Iterable[tuple[str, str]] = (), remove: Iterable[str] = ()
    ) -> None:
        """Values are templates, in which `$1` is a group of the expression that matched. Raises ValueError."""
        self._add = tuple((name, Template(value, True)) for name, value in add)
        self._set = tuple((name, Template(value, True)) for name, value in set)
        self._remove = tuple(remove)

    def __bool__(self) -> bool:
        return bool(self._add or self._set or self._remove)

    def apply(self, head: Head, request: Request, match: Match | None = None) -> None:
        """To `request` itself or to its response. Raises ValueError when a Host would not be one."""
        for name, template in self._add:
            head.add_header(name, template.render(request, match))
        for name, template in self._set:
            head.set_header(name, template.render(request, match))
        for name in self._remove:
            head.remove_header(name)


def request_edits(changes: RequestHeaderChanges | None) -> HeaderEdits:
    return HeaderEdits() if changes is None else HeaderEdits(changes.add.items(), changes.set.items(), changes.remove)


def response_edits(changes: ResponseHeaderChanges | None) -> HeaderEdits:
    if changes is None:
        return HeaderEdits()
    return HeaderEdits(map(split_line, changes.add), changes.set.items(), changes.remove)
