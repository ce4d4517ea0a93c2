"""One live gateway per test, on each event loop that the data plane supports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import LOOPS, LiveGateway, live_gateway


@pytest.fixture(params=list(LOOPS))
def gateway(request: pytest.FixtureRequest) -> Iterator[LiveGateway]:
    with live_gateway(request.param) as live:
        yield live
