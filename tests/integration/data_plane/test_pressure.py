"""A worker that is short of something: memory, files, or patience with clients who give it bytes one at a time."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from data_plane.http import limits, pressure
from data_plane.http.pressure import HeadGuard, MemoryGuard, private_bytes
from tests.support.command import wait_until
from tests.support.data_plane import data_plane
from tests.support.gateway import LiveGateway, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import RawClient, client

POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Memory:
    """What the worker has, as a test says."""

    def __init__(self) -> None:
        self.used = 0
        self.told: list[bool] = []


@contextmanager
def guarded(gateway: LiveGateway, limit: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    monkeypatch.setattr(pressure, "LOOK_SECONDS", 0.01)
    memory = Memory()
    guard = gateway.ask(lambda: MemoryGuard(gateway.gateway, limit, memory.told.append, lambda: memory.used))
    try:
        yield memory
    finally:
        gateway.ask(guard.close)


def test_a_worker_short_of_memory_refuses_what_is_new_and_recovers(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upstream(answering(ok())) as server, guarded(gateway, 1000, monkeypatch) as memory:
        gateway.route(route_to(server.port))
        with client(gateway.port) as kept, client(gateway.port) as sending:
            assert kept.get().status == 200
            sending.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Len")
            gateway.until(lambda it: len(it.clients) == 2 and sum(one.held_head for one in it.clients))  # type: ignore[attr-defined]
            memory.used = 1001
            # The idle are let go; bodies and new connections are refused.
            assert kept.closes_within(2)
            sending.send(b"gth: 2\r\n\r\nok")
            refused = sending.response()
            assert (refused.status, refused.body) == (503, b'{"error_msg":"short of memory"}\n')
            with client(gateway.port) as raw:
                assert raw.response().status == 503
            assert memory.told == [True]
            # Not at once: it must have fallen for good.
            memory.used = 990
            with client(gateway.port) as raw:
                assert raw.response().status == 503
            memory.used = 900
            gateway.until(lambda it: len(memory.told) == 2)
        for request in (POST, CHUNKED):
            with client(gateway.port) as raw:
                raw.send(request)
                assert raw.response().status == 200
    assert memory.told == [True, False]


def test_a_chunked_body_is_refused_as_well(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded(gateway, 1000, monkeypatch) as memory, client(gateway.port) as raw:
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\n")
        gateway.until(lambda it: sum(one.held_head for one in it.clients))  # type: ignore[attr-defined]
        memory.used = 2000
        gateway.until(lambda it: memory.told)
        raw.send(CHUNKED.partition(b"Host: t\r\n")[2])
        assert raw.response().status == 503


def test_the_private_memory_of_a_process_is_what_grows_with_it() -> None:
    before = private_bytes()
    held = bytearray(os.urandom(1 << 20) * 32)
    assert 30 << 20 < private_bytes() - before < 80 << 20
    del held


def test_heads_that_are_not_completed_are_bounded_together(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "HEADS_SECONDS", 0.01)
    monkeypatch.setattr(limits, "HELD_HEAD_BYTES", 60_000)
    monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 0)
    with ExitStack() as stack:
        sizes = (5_000, 20_000, 15_000, 10_000)
        crowd = [stack.enter_context(client(gateway.port)) for _ in sizes]
        for one, size in zip(crowd, sizes, strict=True):
            one.send(b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"x" * size)
        gateway.until(lambda it: sum(one.held_head for one in it.clients) > 50_000)  # type: ignore[attr-defined]
        guard = gateway.ask(lambda: HeadGuard(gateway.gateway))
        stack.callback(gateway.ask, guard.close)
        with client(gateway.port) as straw:
            straw.send(b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 15_000)
            # The largest goes, the others may go on.
            assert crowd[1].response().status == 503
            for one in (crowd[0], crowd[2], crowd[3], straw):
                one.send(b"\r\n\r\n")
                assert b"no configuration" in one.response().body


def look(gateway: LiveGateway, times: int) -> None:
    def sweep() -> None:
        for _ in range(times):
            for one in tuple(gateway.gateway.clients):
                one.sweep(15, 60)

    gateway.ask(sweep)


def test_a_body_that_drips_is_ended(gateway: LiveGateway) -> None:
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as slow, client(gateway.port) as steady:
        gateway.route(route_to(server.port))
        for raw in (slow, steady):
            raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n")
        gateway.until(lambda it: it.busy() == 2)
        look(gateway, 1)
        for _ in range(limits.BODY_LOOKS):
            slow.send(b"x")
            steady.send(b"x" * 600)
            look(gateway, 1)
        answer = slow.response()
        assert (answer.status, answer.field(b"connection")) == (408, b"close")
        gateway.until(lambda it: it.busy() == 1)


def test_a_body_that_nobody_reads_does_not_drip(gateway: LiveGateway) -> None:
    over = threading.Event()

    def unread(_: UpstreamSide) -> None:
        over.wait(20)

    with upstream(unread) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n")
        raw.socket.setblocking(False)
        raw.send_what_fits(b"x" * 30_000_000)
        look(gateway, 3 * limits.BODY_LOOKS)
        assert gateway.ask(gateway.gateway.busy) == 1
        over.set()


def test_a_process_without_a_file_left_waits_and_serves_again(tmp_path: Path) -> None:
    with upstream(answering(ok())) as server, data_plane(tmp_path, serves=server.port) as gateway:
        gateway.ready(1)
        (worker,) = gateway.workers()
        open_files = len(os.listdir(f"/proc/{worker}/fd"))
        with client(gateway.port) as raw:
            assert raw.get().status == 200
            limit = resource.prlimit(worker, resource.RLIMIT_NOFILE)
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_files, limit[1]))
            wait_until(lambda: bool(gateway.events("short of files, letting nobody in")), "it is noticed")
            crowd = [RawClient(gateway.port) for _ in range(20)]
            began, used = time.monotonic(), cpu_seconds(worker)
            # Who is in already is served; it does not spin over those whom it cannot let in.
            wait_until(lambda: time.monotonic() - began > 0.5, "half a second has passed")
            assert raw.get().status == 200
            assert cpu_seconds(worker) - used < 0.2
            resource.prlimit(worker, resource.RLIMIT_NOFILE, limit)
            # They were waiting, and nobody was turned away.
            assert [one.get().status for one in crowd] == [200] * 20
            for one in crowd:
                one.socket.close()
        assert gateway.workers() == [worker]
        assert len(gateway.events("enough files again")) == 1


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
