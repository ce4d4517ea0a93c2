"""A tunnel between two made-up transports, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from data_plane.http.limits import LINGER_IDLE_SECONDS
from data_plane.http.tunnel import Side, Tunnel

IDLE = 60.0


class Clock:
    """The loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.Handle:
        timer = (when, callback)
        self._timers.append(timer)
        return cast(asyncio.Handle, Cancel(lambda: self._timers.remove(timer)))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in sorted(self._timers, key=lambda timer: timer[0]):
            if timer[0] <= self.now and timer in self._timers:
                self._timers.remove(timer)
                timer[1]()


class Cancel:
    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel


class Transport:
    def __init__(self, name: str, said: list[str], tls: bool = False) -> None:
        self._name = name
        self._said = said
        self._tls = tls
        self._closing = False
        self.protocol: Side

    def set_protocol(self, protocol: Side) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return not self._tls

    def write(self, data: bytes) -> None:
        self._said.append(f"{self._name} {data.decode()}")

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._said.append(f"{self._name} close")

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self._said.append(f"{self._name} {name}")


class Stage:
    def __init__(self, *, tls: bool = False, early: bytes = b"", blocked: bool = False) -> None:
        self.said: list[str] = []
        self.clock = Clock()
        one, two = Transport("client", self.said, tls), Transport("upstream", self.said)
        tunnel = Tunnel(
            cast(asyncio.AbstractEventLoop, self.clock),
            (cast(asyncio.Transport, one), lambda error: self.said.append("client is gone")),
            (cast(asyncio.Transport, two), lambda error: self.said.append("upstream is gone")),
            IDLE,
            lambda: self.said.append("ended"),
        )
        tunnel.begin(early, blocked)
        self.client, self.upstream = one.protocol, two.protocol

    def take(self) -> list[str]:
        said, self.said[:] = list(self.said), []
        return said


def test_bytes_go_across() -> None:
    stage = Stage(early=b"early")
    assert stage.take() == ["upstream early", "client resume_reading", "upstream resume_reading"]
    stage.client.data_received(b"a")
    stage.upstream.data_received(b"b")
    assert stage.take() == ["upstream a", "client b"]


def test_a_side_that_cannot_be_written_to_stops_the_other() -> None:
    stage = Stage(blocked=True)
    assert stage.take() == ["client resume_reading"]
    stage.client.resume_writing()
    stage.client.pause_writing()
    stage.upstream.pause_writing()
    stage.upstream.resume_writing()
    expected = ["upstream resume_reading", "upstream pause_reading", "client pause_reading", "client resume_reading"]
    assert stage.take() == expected


def test_each_side_ends_by_itself() -> None:
    stage = Stage()
    stage.take()
    assert stage.client.eof_received() is True
    stage.upstream.data_received(b"more")
    assert stage.take() == ["upstream write_eof", "client more"]
    assert stage.upstream.eof_received() is False
    assert stage.take() == ["client close", "upstream close"]
    stage.upstream.connection_lost(None)
    stage.client.connection_lost(None)
    assert stage.take() == ["ended", "upstream is gone", "client is gone"]


def test_an_end_inside_tls_ends_both() -> None:
    stage = Stage(tls=True)
    stage.take()
    assert stage.upstream.eof_received() is False
    assert stage.take() == ["client close", "upstream close"]


def test_a_lost_side_takes_the_other_with_it() -> None:
    stage = Stage()
    stage.take()
    stage.upstream.connection_lost(ConnectionResetError())
    assert stage.take() == ["ended", "client close", "upstream close", "upstream is gone"]
    stage.client.connection_lost(None)
    assert stage.take() == ["client is gone"]
    stage.clock.advance(1000)
    assert stage.take() == []


def test_any_word_puts_the_idle_time_off() -> None:
    stage = Stage()
    stage.take()
    for side in (stage.client, stage.upstream):
        stage.clock.advance(IDLE - 1)
        side.data_received(b"x")
    stage.clock.advance(IDLE - 1)
    stage.client.resume_writing()
    assert stage.take() == ["upstream x", "client x", "upstream resume_reading"]
    stage.clock.advance(IDLE)
    assert stage.take() == ["client close", "upstream close"]


def test_a_close_that_nobody_takes_is_forced() -> None:
    stage = Stage()
    stage.clock.advance(IDLE)
    stage.take()
    stage.clock.advance(LINGER_IDLE_SECONDS)
    assert stage.take() == ["client abort", "upstream abort"]
