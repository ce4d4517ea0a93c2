"""What a probe is told of the control plane."""

from __future__ import annotations

import asyncio
import json
from typing import cast

from control_plane.status import FRESH_SECONDS, Status
from shared.store.contract import ConfigStore, StoreUnavailable


class Asked:
    """A store that answers, or not, and counts."""

    def __init__(self) -> None:
        self.times = 0
        self.away = False

    async def revision(self) -> int:
        self.times += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("no member of etcd answers at 10.0.0.1:2379")
        return 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Status, Asked, Clock]:
    store, clock = Asked(), Clock()
    return Status(cast(ConfigStore, store), clock), store, clock


async def test_it_is_ready_as_long_as_the_store_answers() -> None:
    status, store, clock = made()
    assert (await status.ready()).status_code == 200
    store.away, clock.now = True, FRESH_SECONDS
    refused = await status.ready()
    assert refused.status_code == 503
    # Nothing of the installation is shown to whoever asks.
    assert json.loads(bytes(refused.body)) == {"status": "error", "error": "the configuration store cannot be reached"}
    assert (await status.alive()).status_code == 200
    store.away, clock.now = False, 2 * FRESH_SECONDS
    assert (await status.ready()).status_code == 200


async def test_the_store_is_asked_once_however_many_ask() -> None:
    status, store, clock = made()
    await asyncio.gather(*(status.ready() for _ in range(50)))
    assert store.times == 1
    clock.now = FRESH_SECONDS
    await asyncio.gather(*(status.ready() for _ in range(50)))
    assert store.times == 2
