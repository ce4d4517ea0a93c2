"""What a route's `uri` and `host` mean: the text of the configuration turned into what the tables look up.

The law: a pattern that could never match, or that could be read in two ways, is refused here with a reason; what passes
is matched exactly as written below. Patterns are brought to the form in which the listener hands over paths
(percent-encoding only where it is needed, upper-case hex, unreserved bytes plain), so that `/caf\u00e9` and
`/caf%C3%A9` are one pattern.

    /foo          exactly this path
    /foo*         every path that begins with /foo
    /u/:id/p      `:id` is one segment, not empty; it begins right after a slash, elsewhere a colon is a plain byte
    /u/:id/*      both: parameters, then anything after the last slash

The *stem* of a pattern is its text before the first parameter or `*`. What follows the stem is its *shape* (where
parameters stand, how many segments, how many bytes before `*`) and its *key* (the literal bytes between them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# What most patterns look like: nothing to encode, decode, merge or refuse.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()+,;=:@*]+)+/?")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})|%00|\0")
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# RFC 3986 pchar and "/" (a query or fragment is no part of a path); "%" is checked apart.
_PATH_BYTES = _UNRESERVED | frozenset(b"!$&'()*+,;=:@/%")
_HOST = re.compile(r"\*?[0-9a-z\-._]*|\[[0-9a-f:.]+\]")


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


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`name` in lower case; a wildcard's name is what a host must end with (empty: any host)."""

    name: bytes
    wildcard: bool


def parse_paths(uris: Iterable[str]) -> tuple[PathPattern, ...]:
    """Two spellings of one pattern count once. Raises ValueError with the first reason."""
    return tuple(dict.fromkeys(parse_path(uri) for uri in uris))


def parse_hosts(hosts: Iterable[str]) -> tuple[HostPattern, ...]:
    """Two spellings of one pattern count once. Raises ValueError with the first reason."""
    return tuple(dict.fromkeys(parse_host(host) for host in hosts))


def parse_path(uri: str) -> PathPattern:
    """Raises ValueError with the reason."""
    text = _normalise(uri)
    if not text.startswith(b"/") and text != b"*":
        raise ValueError(f"path {uri!r} does not begin with a slash")
    segments = text.split(b"/")
    if any(segment in (b".", b"..") for segment in segments):
        raise ValueError(f"path {uri!r} has a dot segment: paths are matched after those are resolved")
    stars = text.count(b"*")
    if stars > 1 or (stars and not text.endswith(b"*")):
        raise ValueError(f"path {uri!r} has a `*` before its end, which is not supported")
    first = next((index for index, segment in enumerate(segments) if _is_parameter(segment)), None)
    if first is None:
        if not stars:
            return PathPattern(text, text, None, b"", len(text))
        return PathPattern(text, text[:-1], Shape((), (), 0), b"", len(text) - 1)
    return _parse_parameters(uri, text, segments, first)


def _parse_parameters(uri: str, text: bytes, segments: list[bytes], first: int) -> PathPattern:
    stem = b"/".join(segments[:first]) + b"/"
    behind = segments[first:]
    tail = behind.pop()[:-1] if behind[-1].endswith(b"*") else None
    if tail is not None and _is_parameter(tail):
        raise ValueError(f"path {uri!r} has a `*` right behind a parameter: write it behind a slash")
    params = tuple(index for index, segment in enumerate(behind) if _is_parameter(segment))
    literals = tuple(index for index in range(len(behind)) if index not in params)
    key = b"/".join([behind[index] for index in literals])
    literal_bytes = len(stem) + sum(len(behind[index]) for index in literals) + len(behind) - 1
    if tail is not None:
        key += b"/" + tail
        literal_bytes += 1 + len(tail)
    shape = Shape(literals, params, None if tail is None else len(tail))
    return PathPattern(text, stem, shape, key, literal_bytes)


def _is_parameter(segment: bytes) -> bool:
    return len(segment) > 1 and segment.startswith(b":")


def _normalise(uri: str) -> bytes:
    if _PLAIN.fullmatch(uri):
        return uri.encode("ascii")
    if _BAD_ESCAPE.search(uri):
        raise ValueError(f"path {uri!r} has %00, or a % that two hex digits do not follow")
    if "?" in uri or "#" in uri:
        raise ValueError(f"path {uri!r} has a query or fragment: only paths are matched")
    raw = uri.encode("utf-8", "surrogatepass")
    quoted = b"".join(bytes((byte,)) if byte in _PATH_BYTES else b"%%%02X" % byte for byte in raw)
    # Slashes are merged in a request's path too.
    return re.sub(rb"//+", b"/", _ENCODED.sub(_decode_unreserved, quoted))


def _decode_unreserved(match: re.Match[bytes]) -> bytes:
    byte = int(match[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else match[0].upper()


def parse_host(host: str) -> HostPattern:
    """Raises ValueError with the reason."""
    name = host.lower()
    if not name or not _HOST.fullmatch(name):
        raise ValueError(f"host {host!r} is not a name, a bracketed IPv6 address, or either form behind one leading `*`")
    wildcard = name.startswith("*")
    return HostPattern(name.removeprefix("*").encode(), wildcard)
