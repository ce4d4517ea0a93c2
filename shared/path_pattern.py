"""What a route's `uri` means: the text of the configuration turned into what the path tables look up.

The law: a pattern that could never match, or that could be read in two ways, is refused here with a reason; what passes
is matched exactly as written below. The schema refuses by these rules and the router matches by them, so nothing is
accepted that a worker cannot serve. Patterns are brought to the form in which the listener hands over paths
(percent-encoding only where it is needed, upper-case hex, unreserved bytes plain), so that `/caf\u00e9` and
`/caf%C3%A9` are one pattern.

    /foo          exactly this path
    /foo*         every path that begins with /foo; `*` alone takes every path, and `OPTIONS *`
    /u/:id/p      `:id` is one segment, not empty; it begins right after a slash, elsewhere a colon is a plain byte
    /u/:id/*      both: parameters, then anything after the last slash

The *stem* of a pattern is its text before the first parameter or `*`. What follows the stem is its *shape* (where
parameters stand, how many segments, how many bytes before `*`) and its *key* (the literal bytes between them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.request_path import PathError, escape, normalise

# What most patterns look like: nothing to encode, decode, merge or refuse.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()+,=:@*]+)+/?")
# And those of them without parameter or `*`: there may be 100,000 to read when a worker starts.
_EXACT = re.compile(r"(?:/[A-Za-z0-9\-_~!$&'()+,=@][A-Za-z0-9\-._~!$&'()+,=:@]*)+/?")
_SLASHES = re.compile(rb"//+")
_DOT_SEGMENT = re.compile(rb"(?:^|/)\.\.?(?:/|$)")
# The longest excerpt of a refused pattern in a message.
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Shape:
    """Where literals and parameters stand behind a stem. `tail`: how many bytes stand before `*`, None without one."""

    literals: tuple[int, ...]
    params: tuple[int, ...]
    tail: int | None

    def key_of(self, rest: bytes) -> bytes | None:
        """The literal bytes of a path behind the stem, or None when the path has not this shape."""
        segments = len(self.literals) + len(self.params)
        if self.tail is None:
            parts = rest.split(b"/")
            if len(parts) != segments:
                return None
        else:
            if not segments:
                return rest[: self.tail]
            parts = rest.split(b"/", segments)
            if len(parts) != segments + 1:
                return None
        for index in self.params:
            if not parts[index]:
                return None
        key = b"/".join([parts[index] for index in self.literals])
        return key if self.tail is None else key + b"/" + parts[segments][: self.tail]


@dataclass(frozen=True, slots=True)
class PathPattern:
    """`shape` is None for an exact path: then the stem is the whole of it."""

    text: bytes
    stem: bytes
    shape: Shape | None
    key: bytes
    literal_bytes: int

    def captures(self, path: bytes) -> dict[bytes, bytes]:
        """What its parameters stand for in a path that it matches; under `ext` what its `*` does."""
        if self.shape is None:
            return {}
        wanted = self.text.split(b"/")
        parts = path.split(b"/", len(wanted) - 1)
        found = {name[1:]: part for name, part in zip(wanted, parts, strict=True) if name.startswith(b":")}
        if self.shape.tail is not None:
            found[b"ext"] = parts[-1][len(wanted[-1]) - 1 :]
        return found


def parse_paths(uris: Iterable[str]) -> tuple[PathPattern, ...]:
    """Two spellings of one pattern count once. Raises ValueError with the first reason."""
    return tuple(dict.fromkeys(parse_path(uri) for uri in uris))


def parse_path(uri: str) -> PathPattern:
    """Raises ValueError with the reason."""
    try:
        return _parse(uri)
    except ValueError as error:
        raise ValueError(f"path {uri[:_SHOWN]!r} {error}") from error


def _parse(uri: str) -> PathPattern:
    if _EXACT.fullmatch(uri):
        exact = uri.encode("ascii")
        return PathPattern(exact, exact, None, b"", len(exact))
    text = _normalise(uri)
    if not text.startswith(b"/") and text != b"*":
        raise ValueError("does not begin with a slash")
    stars = text.count(b"*")
    if stars > 1 or (stars and not text.endswith(b"*")):
        raise ValueError("has a `*` before its end, which is not supported yet")
    segments = text.split(b"/")
    _check_names([segment[1:] for segment in segments if segment.startswith(b":")])
    first = next((index for index, segment in enumerate(segments) if segment.startswith(b":")), None)
    if first is not None:
        return _with_parameters(text, segments, first)
    if stars:
        return PathPattern(text, text[:-1], Shape((), (), 0), b"", len(text) - 1)
    return PathPattern(text, text, None, b"", len(text))


def _check_names(names: list[bytes]) -> None:
    if b"" in names or b"*" in names:
        raise ValueError("has a segment that begins with a colon, which needs a parameter's name behind it")
    if any(name.endswith(b"*") for name in names):
        raise ValueError("has a `*` right behind a parameter: write it behind a slash")
    if len(set(names)) < len(names):
        raise ValueError("has two segments with the same parameter name")


def _with_parameters(text: bytes, segments: list[bytes], first: int) -> PathPattern:
    stem = b"/".join(segments[:first]) + b"/"
    behind = segments[first:]
    tail = behind.pop()[:-1] if behind[-1].endswith(b"*") else None
    params = tuple(index for index, segment in enumerate(behind) if segment.startswith(b":"))
    literals = tuple(index for index in range(len(behind)) if index not in params)
    key = b"/".join([behind[index] for index in literals])
    literal_bytes = len(stem) + sum(len(behind[index]) for index in literals) + len(behind) - 1
    if tail is not None:
        key += b"/" + tail
        literal_bytes += 1 + len(tail)
    shape = Shape(literals, params, None if tail is None else len(tail))
    return PathPattern(text, stem, shape, key, literal_bytes)


def _normalise(uri: str) -> bytes:
    if _PLAIN.fullmatch(uri) and "/." not in uri:
        return uri.encode("ascii")
    if "?" in uri or "#" in uri:
        raise ValueError("has a query or fragment: only paths are matched")
    try:
        text = _SLASHES.sub(b"/", escape(uri.encode("utf-8", "surrogatepass")))
        if not _DOT_SEGMENT.search(text):
            # What a request could have where the pattern leaves it open; a parameter's name stands for a segment as it is.
            normalise(text[:-1] + b"x" if text.endswith(b"*") else text)
            return text
    except PathError as error:
        raise ValueError(f"can match no request: it has {error}") from error
    raise ValueError("has a dot segment: paths are matched after those are resolved")
