"""`waspgate plugin inspect`: what a module says about itself, and what keeps it from being a plugin.

The law: any file gives a description; one that cannot be loaded is described as far as it can be read, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from shared.proxy_wasm.abi import CALLBACKS, HOST_FUNCTIONS, MARKER_PREFIX, TOOLCHAIN_FUNCTIONS, WASI_FUNCTIONS, WASI_MODULES
from shared.proxy_wasm.binary import Binary, CorruptModule, ModuleError, parse
from shared.proxy_wasm.core_build import ensure_core
from shared.proxy_wasm.inspect import inspect

PAGE_KIB = 64


@dataclass(slots=True)
class Description:
    """`problem`: why it cannot be loaded. `unanswered`: host functions that this host answers with Unimplemented."""

    size: int
    sha256: str
    problem: str = ""
    name: str = ""
    abi_version: str = ""
    callbacks: tuple[str, ...] = ()
    mistyped_exports: tuple[str, ...] = ()
    host_functions: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    wasi_functions: tuple[str, ...] = ()
    toolchain_functions: tuple[str, ...] = ()
    unknown_imports: tuple[str, ...] = ()
    allocator: str = ""
    memory: dict[str, int | None] = field(default_factory=dict)


def describe(data: bytes) -> Description:
    found = Description(len(data), sha256(data).hexdigest())
    try:
        binary = parse(data)
    except CorruptModule as error:
        found.problem = str(error)
        return found
    _read(found, binary)
    try:
        report = inspect(data)
    except ModuleError as error:
        found.problem = str(error)
        return found
    found.abi_version, found.allocator = report.abi_version, report.allocator
    found.callbacks, found.mistyped_exports = report.callbacks, report.mistyped_exports
    return found


def _read(found: Description, binary: Binary) -> None:
    exported = [export.name for export in binary.exports if export.kind == "func"]
    imports = [(item.module, item.name) for item in binary.imports]
    known = {*(("env", name) for name in (*HOST_FUNCTIONS, *TOOLCHAIN_FUNCTIONS))}
    known |= {(module, name) for module in WASI_MODULES for name in WASI_FUNCTIONS}
    answered = {export.name for export in parse(ensure_core().read_bytes()).exports}
    found.name = binary.name
    found.abi_version = ", ".join(name.removeprefix(MARKER_PREFIX) for name in exported if name.startswith(MARKER_PREFIX))
    found.callbacks = _in_order(CALLBACKS, exported)
    found.host_functions = _in_order(HOST_FUNCTIONS, [name for module, name in imports if module == "env"])
    found.unanswered = tuple(name for name in found.host_functions if name not in answered)
    found.toolchain_functions = _in_order(TOOLCHAIN_FUNCTIONS, [name for module, name in imports if module == "env"])
    found.wasi_functions = _in_order(WASI_FUNCTIONS, [name for module, name in imports if module in WASI_MODULES])
    found.unknown_imports = tuple(dict.fromkeys(f"{module}.{name}" for module, name in imports if (module, name) not in known))
    if binary.memories:
        memory = binary.memories[0]
        found.memory = {"minimum_pages": memory.minimum, "maximum_pages": memory.maximum}


def _in_order(table: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    there = set(names)
    return tuple(name for name in table if name in there)


def document(found: Description) -> dict[str, Any]:
    return asdict(found) | {"loadable": not found.problem}


def text(found: Description) -> str:
    rows = [
        ("loadable", f"no: {found.problem}" if found.problem else "yes"),
        ("size", f"{found.size} bytes"),
        ("sha256", found.sha256),
        ("name", found.name),
        ("ABI version", found.abi_version),
        ("memory", _memory(found.memory)),
        ("allocator", found.allocator),
        ("callbacks", _listed(found.callbacks)),
        ("never called", _listed([f"{name} (its type is not the ABI's)" for name in found.mistyped_exports])),
        ("host functions", _listed(found.host_functions)),
        ("answered 12", _listed([f"{name} (Unimplemented)" for name in found.unanswered])),
        ("WASI", _listed(found.wasi_functions)),
        ("toolchain", _listed(found.toolchain_functions)),
        ("unknown imports", _listed(found.unknown_imports)),
    ]
    width = max(len(title) for title, _ in rows) + 2
    return "\n".join(f"{title:<{width}}{value}".replace("\n", "\n" + " " * width) for title, value in rows if value)


def _memory(memory: dict[str, int | None]) -> str:
    if not memory:
        return ""
    minimum, maximum = memory["minimum_pages"] or 0, memory["maximum_pages"]
    limit = "no maximum of its own" if maximum is None else f"at most {maximum * PAGE_KIB} KiB"
    return f"{minimum * PAGE_KIB} KiB at the start, {limit}"


def _listed(names: Iterable[str]) -> str:
    return "\n".join(names)
