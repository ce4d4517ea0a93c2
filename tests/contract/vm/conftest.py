"""Every contract of the VM is tried over both ways of calling into it: the raw one, and the public one in its stead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.proxy_wasm.engine import Engine
from tests.support.guest import Guest, console


@pytest.fixture(scope="session", params=[True, False], ids=["raw", "public"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(raw=request.param)
    yield engine
    engine.close()


@pytest.fixture
def guest(engine: Engine) -> Iterator[Guest]:
    guest = Guest(engine, console())
    yield guest
    guest.vm.close()
