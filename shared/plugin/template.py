"""Text of the configuration with `$variables` in it, taken apart once.

The law: a name that no variable has is refused when the configuration is written; a variable that a request has not is empty.
`$name` and `${name}` are the variables of shared/expression; `$1` and `${1}`, where groups are given, those of the regular
expression that matched; `$$` is a dollar, as is one that no name follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.expression.operators import Value
from shared.expression.variables import Reader, find_reader
from shared.plugin.head import text

if TYPE_CHECKING:
    from shared.plugin.request import Request
    from shared.regex import Match

_VARIABLE = re.compile(r"\$(?:(\$)|\{([^{}]+)\}|([A-Za-z_][A-Za-z0-9_]*|[0-9]{1,2}))")

Quote = Callable[[str], str]


class Template:
    """`constant` is the text when it has neither variables nor groups, else None; `groups` is the highest number."""

    __slots__ = ("_parts", "constant", "groups")

    def __init__(self, source: str, with_groups: bool) -> None:
        """Raises ValueError."""
        parts: list[str | int | tuple[str, Reader]] = []
        self.groups = 0
        end = 0
        for found in _VARIABLE.finditer(source):
            parts.append(source[end : found.start()])
            end = found.end()
            name = found[2] or found[3]
            if found[1]:
                parts.append("$")
            elif name.startswith("post_arg"):
                raise ValueError(f"${name} needs the request's body, which is not here yet when this is used")
            elif not name.isdigit():
                parts.append((name, find_reader(name, True)))
            elif with_groups:
                parts.append(int(name))
                self.groups = max(self.groups, int(name))
            else:
                parts.append(found[0])
        parts.append(source[end:])
        self._parts = tuple(part for part in parts if part != "")
        fixed = [part for part in self._parts if isinstance(part, str)]
        self.constant = "".join(fixed) if len(fixed) == len(self._parts) else None

    def render(self, request: Request, match: Match | None = None, quote: Quote | None = None) -> str:
        """`quote` is applied to the variables that a client decides freely: not to `uri`, `request_uri`, `args` and the like,
        which are in their wire form already, nor to groups."""
        if self.constant is not None:
            return self.constant
        variables = request.variables
        rendered = []
        for part in self._parts:
            if isinstance(part, str):
                rendered.append(part)
            elif isinstance(part, int):
                group = None if match is None else match.group(part)
                rendered.append("" if group is None else text(group))
            else:
                name, read = part
                value = _shown(read(variables))
                rendered.append(value if quote is None or name in _WIRE_FORM else quote(value))
        return "".join(rendered)

    def resolved(self, request: Request) -> str | None:
        """As `render`, of a template without groups; None when not one of its variables has a value, or it has none."""
        if self.constant is not None:
            return None
        variables, shown, has_any = request.variables, [], False
        for part in self._parts:
            value = _shown(part[1](variables)) if isinstance(part, tuple) else str(part)
            has_any = has_any or (isinstance(part, tuple) and value != "")
            shown.append(value)
        return "".join(shown) if has_any else None


_WIRE_FORM = frozenset({"uri", "request_uri", "args", "query_string", "is_args"})


def compile_template(source: str) -> Template:
    """Raises ValueError."""
    return Template(source, False)


def compile_replacement(source: str, groups: int) -> Template:
    """For what an expression with so many groups has matched. Raises ValueError."""
    template = Template(source, True)
    if template.groups > groups:
        raise ValueError(f"${template.groups} in {source!r}, but the expression has {groups} groups")
    return template


def _shown(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
