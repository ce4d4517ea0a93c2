"""How a guest and the core are tied together: WAT text for the two small modules between them.

The law: this file decides from names and types alone; it runs nothing. Order of instantiation: trampolines (what the guest
imports, each a jump through a table that is still empty), the guest, glue (sees both memories), the core (its imports are
glue, the guest's callbacks and Python), and last the table is filled from the core's exports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.proxy_wasm.abi import (
    CALLBACKS,
    ERRNO_NOTCAPABLE,
    HOST_FUNCTIONS,
    TOOLCHAIN_FUNCTIONS,
    WASI_FUNCTIONS,
    WASI_MODULES,
    AbiVersion,
    Status,
)

_VALUE_TYPES = {"i": "i32", "I": "i64", "f": "f32", "F": "f64"}

# Up to here a string is copied by loads and stores in glue; above, memory.copy's call into the runtime is cheaper.
_INLINE_COPY = 128


class LinkError(Exception):
    """The guest asks for something that is no part of the ABI; the message lists all of it."""


@dataclass(frozen=True, slots=True)
class FunctionImport:
    module: str
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class _Target:
    """What answers an import: an export of the core with its type, or a constant."""

    type: str
    core: str = ""
    constant: int = 0


@dataclass(frozen=True, slots=True)
class Trampolines:
    """`exports[k]` answers the guest's k-th import; slot n of the table jumps to the core's `table[n]`."""

    wat: str
    exports: tuple[str, ...]
    table: tuple[str, ...]


def trampolines(
    imports: Sequence[FunctionImport], core_exports: Iterable[str], denied: frozenset[str] = frozenset()
) -> Trampolines:
    """Raises LinkError naming every import that nothing answers or whose type does not fit. A `denied` one answers so."""
    known = frozenset(core_exports)
    problems, functions, table = [], [], list[str]()
    for position, wanted in enumerate(imports):
        target = _target(wanted, known)
        if target is not None and wanted.name in denied:
            target = _Target(target.type, constant=Status.INTERNAL_FAILURE if wanted.module == "env" else ERRNO_NOTCAPABLE)
        if target is None:
            problems.append(f"unknown import {wanted.module}.{wanted.name}")
        elif not _fits(wanted.type, target.type):
            problems.append(
                f"import {wanted.module}.{wanted.name} is declared as {_text(wanted.type)}, expected {_text(target.type)}"
            )
        else:
            functions.append(_trampoline(position, wanted, target, table))
    if problems:
        raise LinkError("; ".join(problems))
    wat = "\n".join(
        ["(module", f'(table (export "table") {max(len(table), 1)} funcref)', *functions, ")"],
    )
    return Trampolines(wat, tuple(str(position) for position in range(len(imports))), tuple(table))


def _target(wanted: FunctionImport, core_exports: frozenset[str]) -> _Target | None:
    if wanted.module in WASI_MODULES and wanted.name in WASI_FUNCTIONS:
        signature, constant = WASI_FUNCTIONS[wanted.name]
        return _Target(signature, wanted.name) if constant is None else _Target(signature, constant=constant)
    if wanted.module != "env":
        return None
    signature_ = HOST_FUNCTIONS.get(wanted.name) or TOOLCHAIN_FUNCTIONS.get(wanted.name)
    if signature_ is None:
        return None
    if wanted.name in core_exports:
        return _Target(signature_, wanted.name)
    return _Target(signature_, constant=Status.UNIMPLEMENTED)


def _fits(wanted: str, offered: str) -> bool:
    """The same parameters; a result may be ignored, and one may be made up where there is none."""
    results = _results(wanted)
    return _parameters(wanted) == _parameters(offered) and results in ("", _results(offered) or "i")


def _trampoline(position: int, wanted: FunctionImport, target: _Target, table: list[str]) -> str:
    if target.core:
        if target.core not in table:
            table.append(target.core)
        arguments = " ".join(f"(local.get {k})" for k in range(len(_parameters(target.type))))
        body = f"(call_indirect {declaration(target.type)} {arguments} (i32.const {table.index(target.core)}))"
    else:
        body = f"(i32.const {target.constant})" if _results(target.type) else ""
    if _results(target.type) and not _results(wanted.type):
        body = f"(drop {body})"
    elif _results(wanted.type) and not _results(target.type):
        body += " (i32.const 0)"
    return f'(func (export "{position}") {declaration(wanted.type)} {body})'


def callback_links(exports: Mapping[str, str], version: AbiVersion, denied: frozenset[str] = frozenset()) -> dict[str, str]:
    """For every callback: `guest` (the export fits as it is), `short` (ABI 0.1.0's arity) or `stub` (absent, denied, wrong
    type)."""
    links = {}
    for name, callback in CALLBACKS.items():
        declared = None if name in denied else exports.get(name)
        if declared == callback.type:
            links[name] = "guest"
        elif declared and declared == callback.short and version is AbiVersion.V0_1_0:
            links[name] = "short"
        else:
            links[name] = "stub"
    return links


def glue(links: Mapping[str, str], allocator_name: str) -> str:
    """Imports: `guest.memory`, `core.memory`, the guest's allocator and its short callbacks (in this order)."""
    shorts = [name for name, link in links.items() if link == "short"]
    imports = [
        '(import "guest" "memory" (memory $g 0))',
        '(import "core" "memory" (memory $h 0))',
        f'(import "guest" "{allocator_name}" (func $allocate (param i32) (result i32)))',
        *(f'(import "guest" "{n}" (func ${n} {declaration(CALLBACKS[n].short)}))' for n in shorts),
    ]
    stubs = [_callback(name, link) for name, link in links.items() if link != "guest"]
    return "\n".join(["(module", *imports, _MEMORY_FUNCTIONS, *stubs, ")"])


def short_callbacks(links: Mapping[str, str]) -> list[str]:
    return [name for name, link in links.items() if link == "short"]


def _callback(name: str, link: str) -> str:
    callback = CALLBACKS[name]
    if link == "short":
        arguments = " ".join(f"(local.get {k})" for k in range(len(_parameters(callback.short))))
        body = f"(call ${name} {arguments})"
    else:
        body = f"(i32.const {callback.default})" if _results(callback.type) else ""
    return f'(func (export "{name}") {declaration(callback.type)} {body})'


def _copy(name: str, to: str, source: str) -> str:
    """A bounds-checked copy between the memories; the guest's side is the one that is checked."""
    guest_pointer = "1" if source == "$g" else "0"
    return f"""
(func (export "{name}") (param $d i32) (param $s i32) (param $n i32) (result i32)
  (if (i32.eqz (call $range (local.get {guest_pointer}) (local.get $n))) (then (return (i32.const 0))))
  (if (i32.gt_u (local.get $n) (i32.const {_INLINE_COPY})) (then
    (memory.copy {to} {source} (local.get $d) (local.get $s) (local.get $n))
    (return (i32.const 1))))
  (block $words (loop $word
    (br_if $words (i32.lt_u (local.get $n) (i32.const 8)))
    (i64.store {to} align=1 (local.get $d) (i64.load {source} align=1 (local.get $s)))
    (local.set $d (i32.add (local.get $d) (i32.const 8)))
    (local.set $s (i32.add (local.get $s) (i32.const 8)))
    (local.set $n (i32.sub (local.get $n) (i32.const 8)))
    (br $word)))
  (block $bytes (loop $byte
    (br_if $bytes (i32.eqz (local.get $n)))
    (i32.store8 {to} (local.get $d) (i32.load8_u {source} (local.get $s)))
    (local.set $d (i32.add (local.get $d) (i32.const 1)))
    (local.set $s (i32.add (local.get $s) (i32.const 1)))
    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
    (br $byte)))
  (i32.const 1))"""


def _store(name: str, value: str) -> str:
    size = "4" if value == "i32" else "8"
    return f"""
(func (export "{name}") (param $p i32) (param $v {value}) (result i32)
  (if (i32.eqz (call $range (local.get $p) (i32.const {size}))) (then (return (i32.const 0))))
  ({value}.store $g align=1 (local.get $p) (local.get $v))
  (i32.const 1))"""


# 64-bit sums: a pointer and a size that wrap around in 32 bits are out of range here.
_MEMORY_FUNCTIONS = (
    """
(func $range (export "guest_range") (param i32 i32) (result i32)
  (i64.le_u (i64.add (i64.extend_i32_u (local.get 0)) (i64.extend_i32_u (local.get 1)))
            (i64.shl (i64.extend_i32_u (memory.size $g)) (i64.const 16))))
(func (export "guest_allocate") (param i32) (result i32) (call $allocate (local.get 0)))"""
    + _copy("guest_read", "$h", "$g")
    + _copy("guest_write", "$g", "$h")
    + _store("guest_store32", "i32")
    + _store("guest_store64", "i64")
)


def _parameters(type_: str) -> str:
    return type_.partition(">")[0]


def _results(type_: str) -> str:
    return type_.partition(">")[2]


def declaration(type_: str) -> str:
    parameters = "".join(f"(param {_VALUE_TYPES[letter]})" for letter in _parameters(type_))
    return parameters + "".join(f"(result {_VALUE_TYPES[letter]})" for letter in _results(type_))


def _text(type_: str) -> str:
    """`(i32, i32) -> i32`, for messages."""
    parameters = ", ".join(_VALUE_TYPES.get(letter, "?") for letter in _parameters(type_))
    results = ", ".join(_VALUE_TYPES.get(letter, "?") for letter in _results(type_)) or "()"
    return f"({parameters}) -> {results}"
