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
    /a/*/c        a `*` that begins a segment stands for anything before what follows, slashes too
    /a/*rest      the same as `/a/*`; the name is for variables

APISIX ignores what follows a `*` within a segment (`/a*b` is `/a*` there) and reads `*.jpg` as a name: both are refused, as
nobody who writes them means that.

The *stem* of a pattern is its text before the first parameter or `*`. What follows the stem is its *shape* (path_shape.py) and
its *key* (the literal bytes of it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from shared.path_shape import AnyShape, Shape, StarShape
from shared.regex import Regex, compile_regex
from shared.request_path import PathError, escape, normalise

# What most patterns look like: nothing to encode, decode, merge or refuse.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()+,=:@*]+)+/?")
# And those of them without parameter or `*`: there may be 100,000 to read when a worker starts.
_EXACT = re.compile(r"(?:/[A-Za-z0-9\-_~!$&'()+,=@][A-Za-z0-9\-._~!$&'()+,=:@]*)+/?")
_SLASHES = re.compile(rb"//+")
_WILD = re.compile(rb"(?<=/):[^/]+|\*[^/]*")
_STAR_NAME = re.compile(rb"[A-Za-z0-9_-]*")
_DOT_SEGMENT = re.compile(rb"(?:^|/)\.\.?(?:/|$)")
# The longest excerpt of a refused pattern in a message.
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class PathPattern:
    """`shape` is None for an exact path: then the stem is the whole of it."""

    text: bytes
    stem: bytes
    shape: AnyShape | None
    key: bytes
    literal_bytes: int

    def captures(self, path: bytes) -> dict[bytes, bytes]:
        """What its parameters and stars stand for in a path that it matches; the last `*` without a name is `ext`."""
        if self.shape is None:
            return {}
        wanted = self.text.split(b"/")
        if isinstance(self.shape, StarShape):
            regex, names = _captures_of_stars(self.text)
            match = regex.fullmatch(path[len(self.stem) :])
            return {} if match is None else {name: part or b"" for name, part in zip(names, match.groups(), strict=True)}
        parts = path.split(b"/", len(wanted) - 1)
        found = {name[1:]: part for name, part in zip(wanted, parts, strict=True) if name.startswith(b":")}
        if self.shape.tail is not None:
            before, _, name = wanted[-1].partition(b"*")
            found[name or b"ext"] = parts[-1][len(before) :]
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
    segments = text.split(b"/")
    _check_stars(segments)
    _check_names([segment[1:] for segment in segments if segment.startswith(b":") or (segment[:1] == b"*" and segment != b"*")])
    if any(b"*" in segment for segment in segments[:-1]):
        return _with_stars(text)
    first = next((index for index, segment in enumerate(segments) if segment.startswith(b":")), None)
    if first is not None:
        return _with_parameters(text, segments, first)
    stem, star, _ = text.partition(b"*")
    return PathPattern(text, stem, Shape((), (), 0) if star else None, b"", len(stem))


def _check_stars(segments: list[bytes]) -> None:
    for index, segment in enumerate(segments):
        before, star, name = segment.partition(b"*")
        if not star or before.startswith(b":"):
            continue
        if before and (name or index < len(segments) - 1):
            raise ValueError("has a `*` within a segment: it may end the path or begin a segment")
        if not _STAR_NAME.fullmatch(name):
            raise ValueError("has a `*` with more than a name behind it in its segment, which would stand for anything")


def _check_names(names: list[bytes]) -> None:
    if b"" in names or b"*" in names:
        raise ValueError("has a segment that begins with a colon, which needs a parameter's name behind it")
    if any(b"*" in name for name in names):
        raise ValueError("has a `*` right behind a parameter: write it behind a slash")
    if len(set(names)) < len(names):
        raise ValueError("has two segments with the same parameter name")


def _with_parameters(text: bytes, segments: list[bytes], first: int) -> PathPattern:
    stem = b"/".join(segments[:first]) + b"/"
    behind = segments[first:]
    tail = behind.pop().partition(b"*")[0] if b"*" in behind[-1] else None
    params = tuple(index for index, segment in enumerate(behind) if segment.startswith(b":"))
    literals = tuple(index for index in range(len(behind)) if index not in params)
    key = b"/".join([behind[index] for index in literals])
    literal_bytes = len(stem) + sum(len(behind[index]) for index in literals) + len(behind) - 1
    if tail is not None:
        key += b"/" + tail
        literal_bytes += 1 + len(tail)
    shape = Shape(literals, params, None if tail is None else len(tail))
    return PathPattern(text, stem, shape, key, literal_bytes)


def _with_stars(text: bytes) -> PathPattern:
    literals, wild = _WILD.split(text), _WILD.findall(text)
    end = literals[-1]
    between = "" if len(wild) == 1 else _regex(wild, [*literals[1:-1], b""])
    return PathPattern(text, literals[0], StarShape(len(end), between), end, sum(map(len, literals)))


def _regex(wild: list[bytes], literals: list[bytes]) -> str:
    """Of so many parameters and stars, each with the text behind it."""
    pairs = zip(wild, literals, strict=True)
    return "".join(("([^/]+)" if part.startswith(b":") else "((?s:.*))") + re.escape(text.decode()) for part, text in pairs)


@lru_cache(maxsize=1024)
def _captures_of_stars(text: bytes) -> tuple[Regex, list[bytes]]:
    """What finds them behind the stem, and their names."""
    literals, wild = _WILD.split(text), _WILD.findall(text)
    return compile_regex(_regex(wild, literals[1:])), [part[1:] or b"ext" for part in wild]


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
