"""Writes that wait for the end of the loop's round: their order, their bound, and who does not get them."""

from __future__ import annotations

import asyncio
from typing import cast

from data_plane.http.outbox import TOGETHER, Outbox
from tests.support.chain import ManualLoop


class Transport:
    def __init__(self, log: list[str], name: str) -> None:
        self._log = log
        self._name = name
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self._log.append(f"{self._name} {data.decode()}")


class Round:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.loop = ManualLoop()
        self.outbox = Outbox(cast(asyncio.AbstractEventLoop, self.loop))
        self.a, self.b = Transport(self.log, "a"), Transport(self.log, "b")

    def put(self, transport: Transport, data: bytes) -> None:
        self.outbox.put(cast(asyncio.WriteTransport, transport), data)


def test_writes_wait_for_the_end_of_the_round_and_keep_their_order() -> None:
    round_ = Round()
    for transport, data in ((round_.a, b"1"), (round_.b, b"2"), (round_.a, b"3")):
        round_.put(transport, data)
    assert round_.log == []
    assert round_.loop.waiting == 1
    round_.loop.advance()
    assert round_.log == ["a 1", "b 2", "a 3"]
    round_.put(round_.b, b"4")
    round_.loop.advance()
    assert round_.log[3:] == ["b 4"]


def test_a_receiver_does_not_wait_for_a_long_round() -> None:
    round_ = Round()
    for number in range(TOGETHER + 1):
        round_.put(round_.a, b"%d" % number)
    assert len(round_.log) == TOGETHER
    round_.loop.advance()
    assert len(round_.log) == TOGETHER + 1


def test_what_is_closed_gets_nothing() -> None:
    round_ = Round()
    round_.put(round_.a, b"1")
    round_.put(round_.b, b"2")
    round_.a.closing = True
    round_.loop.advance()
    assert round_.log == ["b 2"]


def test_whoever_closes_flushes_first() -> None:
    round_ = Round()
    round_.put(round_.a, b"1")
    round_.outbox.flush()
    assert round_.log == ["a 1"]
    round_.loop.advance()
    assert round_.log == ["a 1"]


def test_a_write_that_leads_to_another_comes_first() -> None:
    round_ = Round()

    class Answering(Transport):
        def write(self, data: bytes) -> None:
            super().write(data)
            round_.put(round_.b, b"late")
            round_.outbox.flush()

    round_.put(Answering(round_.log, "c"), b"1")
    round_.put(round_.b, b"2")
    round_.loop.advance()
    assert round_.log == ["c 1", "b 2", "b late"]
