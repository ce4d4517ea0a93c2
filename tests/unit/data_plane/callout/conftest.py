"""Workers over one engine: what compiles once need not compile again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chain import KeptEngine, Worker
from tests.support.performer import Performer


@pytest.fixture(scope="module")
def engine() -> Iterator[KeptEngine]:
    engine = KeptEngine()
    yield engine
    engine.close()


@pytest.fixture
def performer() -> Performer:
    return Performer()


@pytest.fixture
def worker(engine: KeptEngine, performer: Performer) -> Worker:
    worker = Worker(engine)
    worker.runtime.calls = performer
    return worker
