"""Tying a guest to the core: whatever it imports and exports, there is a valid module for it or an error that names all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from shared.proxy_wasm.abi import ALLOCATORS, CALLBACKS, HOST_FUNCTIONS, TOOLCHAIN_FUNCTIONS, WASI_FUNCTIONS, AbiVersion
from shared.proxy_wasm.link import FunctionImport, LinkError, callback_links, glue, short_callbacks, trampolines

# As the core has them: everything that is answered neither by a constant nor by "unimplemented".
CORE = [name for name, (_, constant) in WASI_FUNCTIONS.items() if constant is None]
CORE += [name for name in HOST_FUNCTIONS if not name.startswith(("proxy_http", "proxy_grpc"))] + list(TOOLCHAIN_FUNCTIONS)

KNOWN = {("env", name): type_ for name, type_ in (HOST_FUNCTIONS | TOOLCHAIN_FUNCTIONS).items()} | {
    (module, name): type_
    for module in ("wasi_snapshot_preview1", "wasi_unstable")
    for name, (type_, _) in WASI_FUNCTIONS.items()
}
TYPES = st.builds(
    lambda parameters, results: f"{parameters}>{results}", st.text("iIfF", max_size=5), st.text("iIfF", max_size=2)
)
GOOD = st.sampled_from(sorted(KNOWN)).map(lambda key: FunctionImport(*key, KNOWN[key]))
NAMES = st.one_of(st.sampled_from([name for _, name in sorted(KNOWN)]), st.text(max_size=8))
MODULES = st.sampled_from(["env", "wasi_snapshot_preview1", "wasi_unstable", "other", ""])
ANY = st.builds(FunctionImport, MODULES, NAMES, st.one_of(TYPES, st.sampled_from(sorted(set(KNOWN.values())))))


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_multi_memory = True
    return wasmtime.Engine(config)


def validate(engine: wasmtime.Engine, text: str) -> None:
    wasmtime.Module.validate(engine, bytes(wasmtime.wat2wasm(text)))


@given(imports=st.lists(st.one_of(GOOD, ANY), max_size=12))
def test_any_imports_give_a_valid_module_or_an_error_that_names_them(
    engine: wasmtime.Engine, imports: Sequence[FunctionImport]
) -> None:
    problem, jump = "", None
    try:
        jump = trampolines(imports, CORE)
    except LinkError as error:
        problem = str(error)
    unknown = [item for item in imports if (item.module, item.name) not in KNOWN]
    assert all(f"unknown import {item.module}.{item.name}" in problem for item in unknown)
    if jump is None:
        assert "import " in problem
        return
    validate(engine, jump.wat)
    assert len(jump.exports) == len(imports)
    assert len(set(jump.table)) == len(jump.table)


@given(imports=st.lists(GOOD, max_size=40))
def test_all_that_the_abi_has_links(engine: wasmtime.Engine, imports: Sequence[FunctionImport]) -> None:
    validate(engine, trampolines(imports, CORE).wat)


@pytest.mark.parametrize(
    ("declared", "links"),
    [
        ("i>i", True),
        ("i>", True),
        ("i>I", False),
        ("i>ii", False),
        (">i", False),
        ("ii>i", False),
        ("I>i", False),
        ("?>i", False),
    ],
)
def test_a_result_may_be_ignored_and_nothing_else(declared: str, links: bool) -> None:
    wanted = [FunctionImport("env", "proxy_continue_stream", declared)]
    if links:
        trampolines(wanted, CORE)
        return
    with pytest.raises(LinkError, match=r"proxy_continue_stream is declared as .*, expected \(i32\) -> i32"):
        trampolines(wanted, CORE)


def test_every_problem_is_named() -> None:
    wanted = [FunctionImport("env", "b", ">"), FunctionImport("wasi_unstable", "a", ">"), FunctionImport("env", "seed", "i>F")]
    with pytest.raises(LinkError) as error:
        trampolines(wanted, CORE)
    assert str(error.value) == (
        "unknown import env.b; unknown import wasi_unstable.a; import env.seed is declared as (i32) -> f64, expected () -> f64"
    )


@given(
    exports=st.dictionaries(
        st.sampled_from(sorted(CALLBACKS)),
        st.one_of(TYPES, st.sampled_from(sorted({t for c in CALLBACKS.values() for t in (c.type, c.short)} - {""}))),
    ),
    version=st.sampled_from(AbiVersion),
    allocator=st.sampled_from(ALLOCATORS),
)
def test_any_exports_give_valid_glue(
    engine: wasmtime.Engine, exports: dict[str, str], version: AbiVersion, allocator: str
) -> None:
    links = callback_links(exports, version)
    validate(engine, glue(links, allocator))
    assert {name for name, kind in links.items() if kind == "guest"} == {
        name for name, type_ in exports.items() if type_ == CALLBACKS[name].type
    }
    assert short_callbacks(links) == [name for name, kind in links.items() if kind == "short"]
    assert version is AbiVersion.V0_1_0 or not short_callbacks(links)
