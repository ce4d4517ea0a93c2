"""What a request path means: one normal form, which is both routed and forwarded.

The law: no reading of the normal form by RFC 3986, by a servlet container or by a WHATWG URL parser may lead to another
resource above or beside the one that was routed; a path for which that cannot be had is refused.

- `%XX` of an unreserved character is decoded (once), every other escape is kept with upper-case digits, and a byte that no
  path has plainly (`|`, `"`) is escaped; `%00` and a `%` without two digits are refused.
- Slashes are merged, `.` and `..` segments resolved; `..` above the root is refused.
- `%2F`, `%5C` and `;` parameters are kept, as many APIs need them, but refused where a receiver that decodes or strips them
  would then see an empty, `.` or `..` segment. A bare backslash is refused.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_ESCAPED_SEPARATOR = re.compile(rb"%2F|%5C")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# All but RFC 3986's pchar, "/" and the "%" of an escape.
_NO_PATH_BYTE = re.compile(rb"[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]")
_SLASHES = re.compile(rb"//+")


class PathError(ValueError):
    """The path has no single meaning."""


def escape(path: bytes) -> bytes:
    """Escapes only where they are needed, in upper case; raises PathError."""
    if b"%" in path:
        if _BAD_ESCAPE.search(path) is not None:
            raise PathError("%00, or a % that two hex digits do not follow")
        path = _ESCAPE.sub(_decode, path)
    return _NO_PATH_BYTE.sub(_encode, path)


def _encode(match: re.Match[bytes]) -> bytes:
    if match[0] == b"\0":
        raise PathError("a NUL")
    return b"%%%02X" % match[0][0]


def _decode(match: re.Match[bytes]) -> bytes:
    value = int(match[1], 16)
    return bytes((value,)) if value in _UNRESERVED else match[0].upper()


def _is_ambiguous(path: bytes) -> bool:
    escaped = _ESCAPED_SEPARATOR.search(path) is not None
    if not escaped and b";" not in path:
        return False
    segments = _ESCAPED_SEPARATOR.sub(b"/", path).split(b"/")[1:]
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        name, parameters, _ = segment.partition(b";")
        if name in (b".", b"..") and (escaped or parameters):
            return True
        if not name and index < last and (escaped or parameters):
            return True
    return False


def _resolve_dots(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if not kept:
                raise PathError("`..` above the root")
            kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def normalise(path: bytes) -> bytes:
    """The normal form of a path that begins with a slash; raises PathError."""
    if b"\\" in path:
        raise PathError("a backslash")
    path = escape(path)
    if _is_ambiguous(path):
        raise PathError("an escaped separator or parameter that hides a dot or empty segment")
    path = _SLASHES.sub(b"/", path)
    return _resolve_dots(path) if b"/." in path else path
