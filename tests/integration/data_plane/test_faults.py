"""Faults of one that are nobody else's: a slow upstream, a stream that never ends, clients that leave by the hundred."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from data_plane.config.snapshot import Route, Snapshot
from tests.support.gateway import LiveGateway, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import RawClient, client

ROUNDS = 20
ABORTS = 15
# Fewer than half of the files that a process may open where nobody has said more.
IDLE = 400


class ByPath:
    """A router of two routes."""

    def __init__(self, routes: dict[bytes, Route]) -> None:
        self._routes = routes

    def match(self, method: bytes, host: bytes, path: bytes) -> Route | None:
        return self._routes.get(path)


def serve(gateway: LiveGateway, routes: dict[bytes, Route]) -> None:
    by_id = {route.id: route for route in routes.values()}
    gateway.ask(lambda: setattr(gateway.gateway, "snapshot", Snapshot(1, ByPath(routes), by_id)))


@contextmanager
def silent() -> Iterator[int]:
    """An upstream that takes requests and says nothing until the end."""
    over = threading.Event()

    def script(side: UpstreamSide) -> None:
        side.head()
        over.wait(20)

    with upstream(script) as server:
        try:
            yield server.port
        finally:
            over.set()


def test_a_slow_upstream_holds_up_nobody_else(gateway: LiveGateway) -> None:
    with silent() as slow, upstream(answering(ok())) as server:
        serve(gateway, {b"/slow": replace(route_to(slow), id="slow"), b"/": route_to(server.port)})
        waiting = [RawClient(gateway.port) for _ in range(50)]
        for one in waiting:
            one.send(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
        gateway.until(lambda it: it.busy() == 50)
        with client(gateway.port) as raw:
            assert [raw.get().status for _ in range(100)] == [200] * 100
        assert gateway.ask(gateway.gateway.busy) == 50
        for one in waiting:
            one.socket.close()
        gateway.until(lambda it: it.busy() == 0)


def test_idle_clients_cost_the_others_nothing(gateway: LiveGateway) -> None:
    """CPU time of the loop's thread, the least of some rounds, tried again while the machine disturbs it."""

    def cost(raw: RawClient) -> float:
        found = []
        for _ in range(5):
            before = gateway.ask(time.thread_time)
            assert [raw.get().status for _ in range(40)] == [200] * 40
            found.append(gateway.ask(time.thread_time) - before)
        return min(found)

    with upstream(answering(ok())) as server, client(gateway.port) as raw, ExitStack() as crowd:
        gateway.route(route_to(server.port))
        alone = cost(raw)
        for _ in range(IDLE):
            one = crowd.enter_context(client(gateway.port))
            assert one.get().status == 200
        assert len(gateway.gateway.clients) == IDLE + 1
        # Four times would be a third of a microsecond for each of them.
        assert any(cost(raw) < 4 * alone for _ in range(10))


def test_an_event_is_passed_on_when_it_comes(gateway: LiveGateway) -> None:
    go_on = threading.Semaphore(0)

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            event = b"data: %d\n\n" % number
            side.send(b"%x\r\n%b\r\n" % (len(event), event))
            # The next one comes when the client has seen this one.
            assert go_on.acquire(timeout=10)
        side.send(b"0\r\n\r\n")

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        for number in range(5):
            raw.wait_for(b"data: %d\n\n" % number)
            go_on.release()
        assert raw.response().body.count(b"data: ") == 5


BEGINNINGS = (
    b"GE",
    b"GET / HTTP/1.1\r\nHost: t\r\n",
    b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: t\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n12345",
    b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
)


def test_clients_that_leave_leave_nothing(gateway: LiveGateway) -> None:
    def leave(port: int) -> None:
        crowd = [RawClient(port) for _ in range(ABORTS)]
        for number, one in enumerate(crowd):
            one.send(BEGINNINGS[number % len(BEGINNINGS)])
        gateway.until(lambda it: it.busy() >= ABORTS // len(BEGINNINGS))
        for one in crowd:
            one.abort()
        gateway.until(lambda it: not it.clients and it.pool.open() == it.pool.idle())

    with silent() as slow:
        gateway.route(route_to(slow))
        leave(gateway.port)
        before = gateway.ask(ours)
        for _ in range(ROUNDS):
            leave(gateway.port)
        after = gateway.ask(ours)
    grown = {name: count - before[name] for name, count in after.items() if count - before[name] >= ROUNDS}
    assert not grown


def ours() -> Counter[str]:
    """The living objects of the data plane, by type."""
    gc.collect()
    return Counter(type(one).__qualname__ for one in gc.get_objects() if str(type(one).__module__).startswith("data_plane."))


def test_a_client_that_has_gone_needs_no_garbage_collector(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server:
        gateway.route(route_to(server.port))
        gateway.ask(gc.collect)
        gc.disable()
        try:
            for _ in range(10):
                with client(gateway.port) as raw:
                    assert raw.get().status == 200
            gateway.until(lambda it: not it.clients)
            # The loop may still be in the call that ended the last of them.
            gateway.until(lambda _: living("ClientConnection") <= 1)
        finally:
            gc.enable()


def living(name: str) -> int:
    return sum(type(one).__name__ == name for one in gc.get_objects())
