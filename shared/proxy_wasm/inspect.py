"""What a Wasm file says about itself as a plugin, without running it.

The law: `inspect` answers a `ModuleReport` or raises a `ModuleError` whose message names what is wrong, whatever the
bytes are. What passes links against our host; whether it also starts, only a start can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from shared.proxy_wasm.abi import (
    ALLOCATORS,
    HOST_FUNCTIONS,
    MARKER_PREFIX,
    TOOLCHAIN_FUNCTIONS,
    VERSION_MARKERS,
    WASI_FUNCTIONS,
    WASI_MODULES,
    AbiVersion,
)
from shared.proxy_wasm.binary import Binary, CorruptModule, Import, ModuleError, parse
from shared.proxy_wasm.link import callback_links

ALLOCATOR_TYPE = "i>i"
MARKER_TYPE = ">"
# ABI 0.1.0 writes these without a result, its hosts and SDKs with one: both link.
RESULT_OPTIONAL = frozenset({"proxy_continue_request", "proxy_continue_response", "proxy_clear_route_cache"})
# Longest list of offending names in one message, and longest name in it.
NAMED = 20
NAME_SHOWN = 200


class MissingAbi(ModuleError):
    """No `proxy_abi_version_*` export: not a Proxy-Wasm plugin."""


class UnknownAbi(ModuleError):
    """A Proxy-Wasm plugin of a version that we do not speak."""


class UnknownImports(ModuleError):
    """The module wants something that no host function provides."""


class MissingAllocator(ModuleError):
    """The host has no way to place data in the module's memory."""


class UnsuitableMemory(ModuleError):
    """No exported memory, several memories, or one that is not a plain 32-bit memory."""


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """What an accepted module is. `mistyped_exports` have a callback's name but another type, and are never called."""

    sha256: str
    size: int
    name: str
    abi_version: str
    callbacks: tuple[str, ...]
    host_functions: tuple[str, ...]
    wasi_functions: tuple[str, ...]
    toolchain_functions: tuple[str, ...]
    allocator: str
    memory_minimum_pages: int
    memory_maximum_pages: int | None
    mistyped_exports: tuple[str, ...]


def inspect(data: bytes) -> ModuleReport:
    """The report of a module that can be linked; raises ModuleError."""
    binary = parse(data)
    functions = {export.name: export.type for export in binary.exports if export.kind == "func"}
    version = _abi_version(binary)
    _check_imports(binary)
    _check_memory(binary)
    memory = binary.memories[0]
    callbacks, mistyped = _callbacks(functions, version)
    return ModuleReport(
        sha256=sha256(data).hexdigest(),
        size=len(data),
        name=binary.name[:NAME_SHOWN],
        abi_version=str(version),
        callbacks=callbacks,
        host_functions=_imported(binary, ("env",), HOST_FUNCTIONS),
        wasi_functions=_imported(binary, WASI_MODULES, WASI_FUNCTIONS),
        toolchain_functions=_imported(binary, ("env",), TOOLCHAIN_FUNCTIONS),
        allocator=_allocator(functions),
        memory_minimum_pages=memory.minimum,
        memory_maximum_pages=memory.maximum,
        mistyped_exports=mistyped,
    )


def _abi_version(binary: Binary) -> AbiVersion:
    """The first known marker in the order of the file, as Envoy's host picks it."""
    markers = [export for export in binary.exports if export.name.startswith(MARKER_PREFIX) and export.kind == "func"]
    if not markers:
        raise MissingAbi("not a Proxy-Wasm plugin: it exports no function proxy_abi_version_*")
    for marker in markers:
        if marker.name in VERSION_MARKERS and marker.type == MARKER_TYPE:
            return VERSION_MARKERS[marker.name]
    known = ", ".join(str(version) for version in VERSION_MARKERS.values())
    raise UnknownAbi(f"unknown Proxy-Wasm ABI version {_listed([m.name for m in markers])}: known are {known}")


def _check_imports(binary: Binary) -> None:
    problems = [problem for item in binary.imports if (problem := _import_problem(item)) is not None]
    if problems:
        unknown = list(dict.fromkeys(problems))
        raise UnknownImports(f"unknown {'import' if len(unknown) == 1 else 'imports'} {_listed(unknown)}")


def _import_problem(item: Import) -> str | None:
    name = f"{item.module}.{item.name}"
    if item.kind != "func":
        return f"{name} (a {item.kind}; the host provides functions only)"
    expected = _provided_type(item)
    if expected is None:
        return name
    if item.type == expected or (item.name in RESULT_OPTIONAL and item.type == ">"):
        return None
    return f"{name} of type {signature(item.type)} (the host's is {signature(expected)})"


def _provided_type(item: Import) -> str | None:
    if item.module == "env":
        return HOST_FUNCTIONS.get(item.name) or TOOLCHAIN_FUNCTIONS.get(item.name)
    if item.module in WASI_MODULES and item.name in WASI_FUNCTIONS:
        return WASI_FUNCTIONS[item.name][0]
    return None


def _check_memory(binary: Binary) -> None:
    if not any(export.kind == "memory" and export.name == "memory" for export in binary.exports):
        raise UnsuitableMemory('no exported memory: a plugin exports its memory as "memory"')
    if len(binary.memories) != 1:
        raise UnsuitableMemory(f"{len(binary.memories)} memories: a plugin has exactly one")
    memory = binary.memories[0]
    if memory.is_64 or memory.is_shared:
        raise UnsuitableMemory(f"a {'64-bit' if memory.is_64 else 'shared'} memory: the ABI needs a plain 32-bit memory")


def _allocator(functions: dict[str, str]) -> str:
    for name in ALLOCATORS:
        if functions.get(name) == ALLOCATOR_TYPE:
            return name
    raise MissingAllocator(f"no allocator: a plugin exports {' or '.join(ALLOCATORS)} of type (i32) -> i32")


def _callbacks(functions: dict[str, str], version: AbiVersion) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Exported callbacks in the order of the table, and those whose type is not the ABI's."""
    links = callback_links(functions, version)
    good = tuple(name for name, link in links.items() if link != "stub")
    return good, tuple(name for name, link in links.items() if link == "stub" and name in functions)


def _imported(
    binary: Binary, modules: tuple[str, ...], table: dict[str, str] | dict[str, tuple[str, int | None]]
) -> tuple[str, ...]:
    """The imported functions of a table, sorted and once each."""
    return tuple(sorted({item.name for item in binary.imports if item.module in modules and item.name in table}))


def signature(type_: str) -> str:
    """`ii>i` as people write it: `(i32, i32) -> i32`."""
    words = {"i": "i32", "I": "i64", "f": "f32", "F": "f64", "?": "reference"}
    parameters, _, results = type_.partition(">")
    returned = ", ".join(words[letter] for letter in results)
    return f"({', '.join(words[letter] for letter in parameters)}){f' -> {returned}' if returned else ''}"


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(name[:NAME_SHOWN] for name in names[:NAMED]) + rest


__all__ = [
    "CorruptModule",
    "MissingAbi",
    "MissingAllocator",
    "ModuleError",
    "ModuleReport",
    "UnknownAbi",
    "UnknownImports",
    "UnsuitableMemory",
    "inspect",
    "signature",
]
