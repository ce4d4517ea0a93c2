"""Taps: a small module between two others, whose every function is announced to Python before and after it runs.

The law: a tap changes nothing but the time. A call goes through it with its own arguments, result and trap; Python hears of the
arguments, then of the result; of a trap it hears nothing. Only a VM that is traced has taps (instance.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import wasmtime

from shared.proxy_wasm.abi import CALLBACKS
from shared.proxy_wasm.link import declaration
from shared.proxy_wasm.trace.transcript import Transcript

_LETTERS = {"i32": "i", "i64": "I", "f32": "f", "f64": "F"}
_TYPES = {
    "i": wasmtime.ValType.i32,
    "I": wasmtime.ValType.i64,
    "f": wasmtime.ValType.f32,
    "F": wasmtime.ValType.f64,
}


@dataclass(frozen=True, slots=True)
class Tapped:
    """A function by the name that a transcript shows, and its type as in abi.py."""

    name: str
    type: str

    @property
    def announced(self) -> str:
        """The type of the Python function that is told the arguments."""
        return self.type.partition(">")[0] + ">"

    @property
    def answered(self) -> str:
        """The type of the one that is told the result."""
        return self.type.partition(">")[2] + ">"


def tap(functions: Sequence[Tapped]) -> str:
    """Function k comes from `target.k` and goes out as `k`; `enter.k` gets its arguments and `leave.k` its result."""
    imports, bodies = list[str](), list[str]()
    for k, function in enumerate(functions):
        imports += [
            f'(import "target" "{k}" (func $target{k} {declaration(function.type)}))',
            f'(import "enter" "{k}" (func $enter{k} {declaration(function.announced)}))',
            f'(import "leave" "{k}" (func $leave{k} {declaration(function.answered)}))',
        ]
        bodies.append(_body(k, function))
    return "\n".join(["(module", *imports, *bodies, ")"])


def _body(k: int, function: Tapped) -> str:
    parameters, _, result = function.type.partition(">")
    arguments = " ".join(f"(local.get {position})" for position in range(len(parameters)))
    head = f'(func (export "{k}") {declaration(function.type)}'
    enter = f"(call $enter{k} {arguments})"
    if not result:
        return f"{head} {enter} (call $target{k} {arguments}) (call $leave{k}))"
    kept = len(parameters)
    local = declaration(f"{result}>").replace("param", "local")
    return f"{head} {local} {enter} (call $leave{k} (local.tee {kept} (call $target{k} {arguments}))) (local.get {kept}))"


class Taps:
    """The taps of one traced instance's Store."""

    def __init__(self, engine: wasmtime.Engine, store: wasmtime.Store, transcript: Transcript) -> None:
        self._engine = engine
        self._store = store
        self._transcript = transcript

    def host_calls(self, module: wasmtime.Module, targets: Sequence[wasmtime.Func]) -> list[wasmtime.Func]:
        """In place of what answers the module's imports, in their order."""
        functions = [Tapped(wanted.name or "", _letters(wanted.type)) for wanted in module.imports]
        return self._between(functions, targets, self._transcript.enter_host_call)

    def callbacks(self, targets: Mapping[str, wasmtime.Func]) -> dict[str, wasmtime.Func]:
        """In place of the guest's callbacks, by name."""
        functions = [Tapped(name, CALLBACKS[name].type) for name in targets]
        tapped = self._between(functions, list(targets.values()), self._transcript.enter_callback)
        return dict(zip(targets, tapped, strict=True))

    def _between(
        self, functions: Sequence[Tapped], targets: Sequence[wasmtime.Func], enter: Callable[[str, Sequence[int]], None]
    ) -> list[wasmtime.Func]:
        imports = list[wasmtime.Func]()
        for function, target in zip(functions, targets, strict=True):
            imports += [target, self._announce(function, enter), self._answer(function)]
        module = wasmtime.Module(self._engine, tap(functions))
        exports = wasmtime.Instance(self._store, module, imports).exports(self._store)
        tapped = [exports[str(k)] for k in range(len(functions))]
        return [function for function in tapped if isinstance(function, wasmtime.Func)]

    def _announce(self, function: Tapped, enter: Callable[[str, Sequence[int]], None]) -> wasmtime.Func:
        def announced(*numbers: int) -> None:
            enter(function.name, numbers)

        return wasmtime.Func(self._store, _function_type(function.announced), announced)

    def _answer(self, function: Tapped) -> wasmtime.Func:
        leave = self._transcript.leave

        def answered(result: int | float | None = None) -> None:
            leave(result)

        return wasmtime.Func(self._store, _function_type(function.answered), answered)


def _letters(type_: wasmtime.FuncType | object) -> str:
    assert isinstance(type_, wasmtime.FuncType)
    parameters, results = ("".join(_LETTERS[str(value)] for value in values) for values in (type_.params, type_.results))
    return f"{parameters}>{results}"


def _function_type(type_: str) -> wasmtime.FuncType:
    parameters, _, results = type_.partition(">")
    return wasmtime.FuncType([_TYPES[letter]() for letter in parameters], [_TYPES[letter]() for letter in results])
