"""Every row of the table passes, every function and callback has one, and the page in docs/ is the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.proxy_wasm.abi import CALLBACKS, HOST_FUNCTIONS, WASI_FUNCTIONS, AbiVersion
from tests.conformance.cases import TABLE
from tests.conformance.run import run
from tests.conformance.table import Row, page, runs
from tests.support.chain import KeptEngine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def engine() -> Iterator[KeptEngine]:
    engine = KeptEngine()
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("row", "version"), [pytest.param(*each, id=f"{each[1]} {each[0].subject}: {each[0].behaviour}") for each in runs(TABLE)]
)
def test_case(engine: KeptEngine, row: Row, version: AbiVersion) -> None:
    assert run(engine, row, version) == ""


def test_nothing_of_the_abi_is_left_out() -> None:
    assert {*CALLBACKS, *HOST_FUNCTIONS, *WASI_FUNCTIONS} - TABLE.subjects() == set()


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "conformance.md").read_text() == page(TABLE, {}), "run `make conformance`"
