"""Reading the sections of a Wasm binary: types, imports, functions, memories, exports and the custom sections' names.

The law: any bytes give a `Binary` or a `ModuleError`, nothing else; every count and length is checked against the bytes
that are there before it is used. This is no validator (the engine is one): it reads what a plugin says about itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from sys import intern
from typing import Literal

MAGIC = b"\0asm"
CORE_VERSION = b"\1\0\0\0"
# Version 13, layer 1: what component-model tools write today.
COMPONENT_LAYER = b"\1\0"

ExternKind = Literal["func", "table", "memory", "global", "tag"]
_EXTERN_KINDS: tuple[ExternKind, ...] = ("func", "table", "memory", "global", "tag")

# The letters of shared/proxy_wasm/abi.py; `?` stands for a type that the ABI never uses.
_VALUE_TYPES = {0x7F: "i", 0x7E: "I", 0x7D: "f", 0x7C: "F"}
_TYPED_REFERENCES = (0x63, 0x64)

# The engine's own limits for types and functions and for the values of a type; the rest is far above any real plugin,
# and keeps a hostile file from costing much more memory than its bytes.
MAX_TYPES = MAX_FUNCTIONS = 1_000_000
MAX_VALUES = 1000
MAX_NAMES = 100_000
MAX_SECTIONS = 10_000
MAX_MEMORIES = 100


class ModuleError(ValueError):
    """A file that is not a plugin we can run; the message names the thing."""


class CorruptModule(ModuleError):
    """The bytes are not a well-formed Wasm module."""


class UnknownInstruction(ModuleError):
    """One that the engine may know and this gateway does not."""


@dataclass(frozen=True, slots=True)
class Import:
    """`type` is a signature as in abi.py for functions, empty for everything else."""

    module: str
    name: str
    kind: ExternKind
    type: str


@dataclass(frozen=True, slots=True)
class Export:
    name: str
    kind: ExternKind
    type: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Limits in pages."""

    minimum: int
    maximum: int | None
    is_shared: bool
    is_64: bool
    imported: bool


@dataclass(frozen=True, slots=True)
class Binary:
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]
    memories: tuple[Memory, ...]
    custom_sections: tuple[str, ...]
    name: str


class _Reader:
    """A cursor over one section; every read is checked."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._position, self._end = data, start, end

    @property
    def at_end(self) -> bool:
        return self._position >= self._end

    @property
    def position(self) -> int:
        return self._position

    def byte(self) -> int:
        if self._position >= self._end:
            raise CorruptModule(f"corrupt Wasm module: it ends early at byte {self._position}")
        self._position += 1
        return self._data[self._position - 1]

    def number(self, bits: int = 32) -> int:
        """An unsigned LEB128 number of at most so many bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise CorruptModule(f"corrupt Wasm module: a number before byte {self._position} is too long")
        if value >> bits:
            raise CorruptModule(f"corrupt Wasm module: a number before byte {self._position} is too large")
        return value

    def count(self, most: int) -> int:
        """How many items follow; each takes a byte at least, so that a false count costs nothing."""
        count = self._fitting("items")
        if count > most:
            raise CorruptModule(f"{count} items before byte {self._position}: at most {most} are supported")
        return count

    def _fitting(self, unit: str) -> int:
        count = self.number()
        if count > self._end - self._position:
            raise CorruptModule(f"corrupt Wasm module: {count} {unit} do not fit behind byte {self._position}")
        return count

    def part(self) -> _Reader:
        """A length, then so many bytes as a reader of their own."""
        length = self._fitting("bytes")
        start = self._position
        self._position += length
        return _Reader(self._data, start, self._position)

    def text(self) -> str:
        length = self._fitting("bytes")
        start = self._position
        self._position += length
        try:
            return self._data[start : self._position].decode()
        except UnicodeDecodeError as error:
            raise CorruptModule(f"corrupt Wasm module: a name at byte {start} is not UTF-8") from error


@dataclass(slots=True)
class _Sections:
    types: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    exports: list[tuple[str, ExternKind, int]] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    custom_sections: list[str] = field(default_factory=list)
    name: str = ""

    def type_at(self, index: int) -> str:
        return _at(self.types, index, "type")


def _at(items: list[str], index: int, what: str) -> str:
    if index >= len(items):
        raise CorruptModule(f"corrupt Wasm module: there is no {what} {index}")
    return items[index]


def parse(data: bytes) -> Binary:
    """The binary's sections; raises CorruptModule."""
    if data[:4] != MAGIC:
        raise CorruptModule("not a Wasm module: it does not begin with the bytes 00 61 73 6d")
    if data[6:8] == COMPONENT_LAYER:
        raise ModuleError("a WebAssembly component: Proxy-Wasm plugins are core modules")
    if data[4:8] != CORE_VERSION:
        raise CorruptModule(f"corrupt Wasm module: unknown version {data[4:8].hex(' ') or 'missing'}")
    reader, sections = _Reader(data, 8, len(data)), _Sections()
    for _ in range(MAX_SECTIONS):
        if reader.at_end:
            return _finish(sections)
        number = reader.byte()
        body = reader.part()
        read = _SECTIONS.get(number)
        if read is not None:
            read(body, sections)
    raise CorruptModule(f"more than {MAX_SECTIONS} sections are not supported")


def _finish(sections: _Sections) -> Binary:
    exports = tuple(
        Export(name, kind, _at(sections.functions, index, "function") if kind == "func" else "")
        for name, kind, index in sections.exports
    )
    return Binary(
        tuple(sections.imports),
        exports,
        tuple(sections.memories),
        tuple(sections.custom_sections),
        sections.name,
    )


def _custom_section(body: _Reader, sections: _Sections) -> None:
    name = body.text()
    sections.custom_sections.append(name)
    if name == "name":
        sections.name = _module_name(body)


def _module_name(body: _Reader) -> str:
    """The module's own name comes first. A broken name section is legal: it names nothing."""
    try:
        return body.part().text() if body.byte() == 0 else ""
    except CorruptModule:
        return ""


def _type_section(body: _Reader, sections: _Sections) -> None:
    for _ in range(body.count(MAX_TYPES)):
        form = body.byte()
        if form != 0x60:
            raise ModuleError(f"a type of form 0x{form:02x}: garbage-collected types are not supported")
        parameters = _value_types(body)
        sections.types.append(intern(f"{parameters}>{_value_types(body)}"))


def _value_types(body: _Reader) -> str:
    return "".join([_value_type(body) for _ in range(body.count(MAX_VALUES))])


def _value_type(body: _Reader) -> str:
    code = body.byte()
    if code in _TYPED_REFERENCES:
        body.number(35)
    return _VALUE_TYPES.get(code, "?")


def _import_section(body: _Reader, sections: _Sections) -> None:
    for _ in range(body.count(MAX_NAMES)):
        module, name = body.text(), body.text()
        kind = _extern_kind(body)
        type_ = _import_type(kind, body, sections)
        sections.imports.append(Import(module, name, kind, type_))
        if kind == "func":
            sections.functions.append(type_)


def _import_type(kind: ExternKind, body: _Reader, sections: _Sections) -> str:
    match kind:
        case "func":
            return sections.type_at(body.number())
        case "table":
            _value_type(body)
            _limits(body, imported=True)
        case "memory":
            sections.memories.append(_limits(body, imported=True))
        case "global":
            _value_type(body)
            body.byte()
        case "tag":
            body.byte()
            body.number()
    return ""


def _function_section(body: _Reader, sections: _Sections) -> None:
    for _ in range(body.count(MAX_FUNCTIONS)):
        sections.functions.append(sections.type_at(body.number()))


def _memory_section(body: _Reader, sections: _Sections) -> None:
    for _ in range(body.count(MAX_MEMORIES)):
        sections.memories.append(_limits(body, imported=False))


def _limits(body: _Reader, *, imported: bool) -> Memory:
    """Bit 0: a maximum follows; 1: shared; 2: 64-bit; 3: a page size of its own follows."""
    flags = body.number()
    bits = 64 if flags & 4 else 32
    minimum = body.number(bits)
    maximum = body.number(bits) if flags & 1 else None
    if flags & 8:
        body.number()
    return Memory(minimum, maximum, bool(flags & 2), bool(flags & 4), imported)


def _export_section(body: _Reader, sections: _Sections) -> None:
    for _ in range(body.count(MAX_NAMES)):
        name = body.text()
        kind = _extern_kind(body)
        sections.exports.append((name, kind, body.number()))


def _extern_kind(body: _Reader) -> ExternKind:
    code = body.byte()
    if code >= len(_EXTERN_KINDS):
        raise CorruptModule(f"corrupt Wasm module: unknown kind {code} before byte {body.position}")
    return _EXTERN_KINDS[code]


_SECTIONS: dict[int, Callable[[_Reader, _Sections], None]] = {
    0: _custom_section,
    1: _type_section,
    2: _import_section,
    3: _function_section,
    5: _memory_section,
    7: _export_section,
}
