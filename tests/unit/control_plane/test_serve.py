"""The control plane's own process: a signal is never lost, whenever it comes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control_plane.cli import serve
from control_plane.cli.settings import Address, Settings
from shared.store.contract import ConfigStore
from shared.store.url import open_store


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_comes_while_the_store_is_opened_stops_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def interrupted(url: str) -> AsyncIterator[ConfigStore]:
        os.kill(os.getpid(), signal.SIGTERM)
        async with open_store(url) as store:
            yield store

    monkeypatch.setattr(serve, "open_store", interrupted)
    settings = Settings(store=f"sqlite://{tmp_path / 'config.db'}", admin=Address("127.0.0.1", 0))
    serve.run(settings)  # returns: without the fix it serves until the test is killed
