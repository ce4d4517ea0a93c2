"""What the log hears of native plugins that fail."""

from __future__ import annotations

import asyncio
from typing import cast

import structlog
from structlog.testing import capture_logs

from data_plane.plugins.waiting import TELL_SECONDS, NativeHost
from shared.limits.rows import LimitsFailed


class Loop:
    now = 100.0

    def time(self) -> float:
        return self.now


def test_what_is_not_there_is_told_once_a_second_and_a_mistake_always() -> None:
    loop = Loop()
    host = NativeHost(cast("asyncio.AbstractEventLoop", loop))
    host.logger = structlog.get_logger("test")
    with capture_logs() as logs:
        for plugin in ("limit-count", "limit-count", "limit-req"):
            host.native_failed(plugin, LimitsFailed("redis: refused"))
        loop.now += TELL_SECONDS
        host.native_failed("limit-count", LimitsFailed("redis: refused"))
        for _ in range(2):
            host.native_failed("mine", ValueError("no"))
    told = [(entry["plugin"], entry["reason"], "exc_info" in entry) for entry in logs]
    unavailable = [("limit-count", "redis: refused", False), ("limit-req", "redis: refused", False)]
    assert told == [*unavailable, unavailable[0], *[("mine", "ValueError('no')", True)] * 2]
