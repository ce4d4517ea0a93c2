"""Both engines of the configuration store for the tests of this folder: a file, and a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.store.contract import ConfigStore
from tests.support.etcd import Etcd
from tests.support.store import Backend


@pytest.fixture(scope="module")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One server for the tests of a file; they keep apart by their keys."""
    server = Etcd(tmp_path_factory.mktemp("etcd"))
    asyncio.run(server.start())
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return Backend(f"sqlite://{tmp_path / 'store.db'}")
    server: Etcd = request.getfixturevalue("etcd_server")
    return Backend(server.url, server)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[ConfigStore]:
    async with backend.open() as opened:
        yield opened


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A prefix of this test's own."""
    return f"/{request.node.name}/"
