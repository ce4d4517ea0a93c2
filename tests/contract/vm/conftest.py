"""Every contract of the VM is tried over each way of calling into it that there is here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.proxy_wasm.calls import BEST, Way
from shared.proxy_wasm.engine import Engine
from tests.support.guest import Guest, console


@pytest.fixture(scope="session", params=range(BEST + 1), ids=lambda way: Way(way).name.lower())
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(way=Way(request.param))
    yield engine
    engine.close()


@pytest.fixture
def guest(engine: Engine) -> Iterator[Guest]:
    guest = Guest(engine, console())
    yield guest
    guest.vm.close()
