"""One engine for all tests of chains: compiling is slow, and a VM depends on nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chain import KeptEngine, Worker


@pytest.fixture(scope="session")
def engine() -> Iterator[KeptEngine]:
    engine = KeptEngine()
    yield engine
    engine.close()


@pytest.fixture
def worker(engine: KeptEngine) -> Worker:
    return Worker(engine)
