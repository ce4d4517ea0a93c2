from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.workers import Worker


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(tmp_path / "state")
    yield environment
    environment.close()


@pytest.fixture
def worker(environment: Environment) -> Iterator[Worker]:
    worker = Worker(environment)
    yield worker
    worker.close()


@pytest.fixture
def other(environment: Environment) -> Iterator[Worker]:
    """A second worker. LMDB opens once in a process, so that both use one environment; what they share is the same."""
    other = Worker(environment)
    yield other
    other.close()
