"""Connections through real plugins: order, pauses, changes, closing and failing, as transcripts.

A line is `NAME CALLBACK ARGUMENTS` or `NAME COMMAND: RESULT` for what the plugin NAME logged (tests/support/chain.py); `> ...`
and `< ...` are what went on to the upstream and to the client.
"""

from __future__ import annotations

import pytest

from data_plane.config.snapshot import Limits, PluginBinding
from data_plane.tcp.chain import TcpChain, open_chain
from data_plane.tcp.ports import CLIENT, UPSTREAM
from shared.proxy_wasm.abi import Direction
from shared.proxy_wasm.tcp import Peer
from tests.support.chain import Journal, Worker, bind
from tests.support.guest import Facts, console

PAUSED = "new_connection return 1"


class Connection:
    """The session's side of a chain (SessionSink)."""

    def __init__(self, worker: Worker, *bindings: PluginBinding) -> None:
        self.journal: Journal = worker.journal
        self.chain: TcpChain = open_chain(worker.runtime, bindings, self, Facts())

    def proceed(self) -> None:
        self.journal.lines.append("connect")

    def forward(self, direction: Direction, data: bytes, eos: bool) -> None:
        self.journal.lines.append(f"{'<' if direction else '>'} {data.decode()}{' eos' if eos else ''}")

    def regulate(self, direction: Direction) -> None: ...

    def close(self) -> None:
        self.journal.lines.append("close")
        self.end()

    def abort(self) -> None:
        self.journal.lines.append("abort")
        self.end()

    def end(self) -> None:
        self.chain.closed(CLIENT, Peer.LOCAL)
        self.chain.finish()

    # --- what a test tells

    def begin(self) -> list[str]:
        self.chain.new_connection()
        return self.journal.take()

    def down(self, data: bytes, eos: bool = False) -> list[str]:
        self.chain.data(CLIENT, data, eos)
        return self.journal.take()

    def up(self, data: bytes, eos: bool = False) -> list[str]:
        self.chain.data(UPSTREAM, data, eos)
        return self.journal.take()


def opened(worker: Worker, *bindings: PluginBinding) -> Connection:
    connection = Connection(worker, *bindings)
    connection.begin()
    return connection


def test_downstream_in_order_upstream_in_reverse(worker: Worker) -> None:
    connection = Connection(worker, worker.bind("a"), worker.bind("b"))
    assert connection.begin() == ["a new_connection 2", "b new_connection 2", "connect"]
    assert connection.down(b"hi") == ["a downstream_data 2 2 0", "b downstream_data 2 2 0", "> hi"]
    assert connection.up(b"ho") == ["b upstream_data 2 2 0", "a upstream_data 2 2 0", "< ho"]
    assert connection.up(b"", eos=True) == ["b upstream_data 2 0 1", "a upstream_data 2 0 1", "<  eos"]
    connection.chain.closed(UPSTREAM, Peer.REMOTE)
    connection.chain.closed(CLIENT, Peer.LOCAL)
    assert worker.take() == [
        "b upstream_connection_close 2 2",
        "a upstream_connection_close 2 2",
        "a downstream_connection_close 2 1",
        "b downstream_connection_close 2 1",
    ]
    connection.chain.finish()
    assert worker.take() == [f"{name} {what} 2" for name in "ab" for what in ("done", "log", "delete")]


def test_each_plugin_sees_what_the_one_before_it_made(worker: Worker) -> None:
    first = worker.bind("a", "downstream_data set_buffer 2 0 5 write", "upstream_data set_buffer 3 0 0 a")
    second = worker.bind("b", "downstream_data buffer 2 0 99", "upstream_data set_buffer 3 0 0 b")
    connection = opened(worker, first, second)
    assert connection.down(b"hello world")[-2:] == ["b buffer: OK write world", "> write world"]
    assert connection.up(b"!")[-1] == "< ab!"


def test_a_new_connection_waits_until_it_is_resumed(worker: Worker) -> None:
    waiting = worker.bind("a", PAUSED, "tick effective 2", "tick continue 2", "configure tick_period 10")
    connection = Connection(worker, waiting, worker.bind("b"))
    assert connection.begin() == ["a new_connection 2"]
    worker.loop.advance(0.015)
    assert worker.take()[-2:] == ["b new_connection 2", "connect"]
    assert connection.down(b"x")[-1] == "> x"


def test_bytes_are_shown_to_a_plugin_that_keeps_the_connection_waiting(worker: Worker) -> None:
    """As in Envoy: what it answers to them decides."""
    waiting = worker.bind("a", PAUSED, "downstream_data#1 return 1", "downstream_data#2 return 0")
    connection = Connection(worker, waiting, worker.bind("b"))
    connection.begin()
    assert connection.down(b"12") == ["a downstream_data 2 2 0"]
    assert connection.down(b"34") == [
        *("a downstream_data 2 4 0", "b new_connection 2", "connect"),
        *("b downstream_data 2 4 0", "> 1234"),
    ]


def test_a_plugin_without_data_callbacks_keeps_bytes_waiting_too(worker: Worker) -> None:
    plugin = worker.plugin("a", module=console("NO_BODIES"))
    script = (PAUSED, "tick effective 2", "tick continue 2", "configure tick_period 10")
    connection = Connection(worker, bind(plugin, *script))
    connection.begin()
    assert connection.down(b"12") == []
    assert connection.down(b"34", eos=True) == []
    worker.loop.advance(0.015)
    assert worker.take()[-2:] == ["connect", "> 1234 eos"]


@pytest.mark.parametrize("direction", [CLIENT, UPSTREAM])
def test_held_bytes_go_on_with_the_callback_that_says_so(worker: Worker, direction: Direction) -> None:
    callback = "upstream_data" if direction else "downstream_data"
    connection = opened(worker, worker.bind("a", f"{callback} return 1", f"{callback}#3 return 0"))
    send = connection.up if direction else connection.down
    assert send(b"ab") == [f"a {callback} 2 2 0"]
    assert send(b"cd") == [f"a {callback} 2 4 0"]
    assert send(b"e", eos=True) == [f"a {callback} 2 5 1", f"{'<' if direction else '>'} abcde eos"]


@pytest.mark.parametrize(("direction", "kind"), [(CLIENT, 2), (UPSTREAM, 3)])
def test_held_bytes_go_on_when_they_are_resumed(worker: Worker, direction: Direction, kind: int) -> None:
    callback = "upstream_data" if direction else "downstream_data"
    script = (f"{callback} return 1", "tick effective 2", f"tick continue {kind}", "configure tick_period 10")
    other = worker.bind("b")
    connection = (
        opened(worker, worker.bind("a", *script), other) if not direction else opened(worker, other, worker.bind("a", *script))
    )
    (connection.up if direction else connection.down)(b"held", True)
    worker.loop.advance(0.015)
    assert worker.take()[-2:] == [f"b {callback} 2 4 1", f"{'<' if direction else '>'} held eos"]


def test_a_pause_and_a_resume_in_one_callback_go_on(worker: Worker) -> None:
    script = (PAUSED, "new_connection continue 2", "downstream_data return 1", "downstream_data continue 2")
    connection = Connection(worker, worker.bind("a", *script))
    assert connection.begin()[-1] == "connect"
    assert connection.down(b"x")[-1] == "> x"


def test_a_plugin_is_full_at_its_limit(worker: Worker) -> None:
    limits = Limits(body_buffer_bytes=8)
    connection = opened(worker, worker.bind("a", "downstream_data return 1", "downstream_data#3 return 0", limits=limits))
    connection.down(b"1234")
    assert not connection.chain.is_full(CLIENT)
    connection.down(b"5678")
    assert connection.chain.is_full(CLIENT)
    assert not connection.chain.is_full(UPSTREAM)
    assert connection.down(b"9")[-1] == "> 123456789"
    assert not connection.chain.is_full(CLIENT)


def test_a_plugin_that_swallows_what_it_holds_is_not_full(worker: Worker) -> None:
    limits = Limits(body_buffer_bytes=8)
    script = ("downstream_data set_buffer 2 0 99", "downstream_data return 1")
    connection = opened(worker, worker.bind("a", *script, limits=limits))
    for _ in range(4):
        connection.down(b"12345678")
    assert not connection.chain.is_full(CLIENT)


@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize("when", ["new_connection", "downstream_data", "upstream_data"])
def test_a_plugin_closes(worker: Worker, when: str, kind: int) -> None:
    connection = Connection(worker, worker.bind("a", f"{when} close {kind}"), worker.bind("b"))
    said = connection.begin() + connection.down(b"x") + connection.up(b"y")
    assert said[said.index("close") + 1] == "a downstream_connection_close 2 1"
    assert "a delete 2" in said
    assert not [line for line in said[said.index("close") + 1 :] if line[0] in "<>"]


def test_a_plugin_closes_from_a_timer(worker: Worker) -> None:
    opened(worker, worker.bind("a", "tick effective 2", "tick close 2", "configure tick_period 10"))
    worker.loop.advance(0.015)
    assert "close" in worker.take()


def test_properties_are_shared_by_the_connections_plugins(worker: Worker) -> None:
    first = worker.bind("a", "new_connection set_property mine value")
    second = worker.bind("b", "new_connection property mine", "new_connection property source%00address")
    connection = Connection(worker, first, second)
    assert connection.begin()[-3:-1] == ["b property: OK value", "b property: OK 192.0.2.7:50000"]


# --- failures


@pytest.mark.parametrize("when", ["new_connection", "downstream_data", "upstream_data"])
def test_a_failed_plugin_ends_the_session(worker: Worker, when: str) -> None:
    connection = Connection(worker, worker.bind("a", f"{when} trap"), worker.bind("b"))
    said = connection.begin() + connection.down(b"x") + connection.up(b"y")
    assert said.count("abort") == 1
    assert "b delete 2" in said or when == "new_connection"
    assert "a done 2" not in said
    assert worker.journal.failures == ["a unreachable"]


def test_a_failed_plugin_is_skipped_under_fail_open(worker: Worker) -> None:
    connection = Connection(worker, worker.bind("a", "new_connection trap", policy="fail_open"), worker.bind("b"))
    assert connection.begin()[-2:] == ["b new_connection 2", "connect"]
    assert connection.down(b"x") == ["b downstream_data 2 1 0", "> x"]


def test_what_a_failed_plugin_held_goes_on_under_fail_open(worker: Worker) -> None:
    script = ("downstream_data return 1", "upstream_data return 1", "downstream_data#3 trap")
    connection = opened(worker, worker.bind("a", *script, policy="fail_open"))
    connection.down(b"ab")
    connection.up(b"xy")
    connection.down(b"cd")
    assert connection.down(b"ef", eos=True) == ["a downstream_data 2 6 1", "> abcdef eos", "< xy"]


def test_a_connection_that_a_failed_plugin_kept_waiting_goes_on_under_fail_open(worker: Worker) -> None:
    waiting = worker.bind("a", PAUSED, "downstream_data trap", policy="fail_open")
    connection = Connection(worker, waiting, worker.bind("b"))
    connection.begin()
    assert connection.down(b"x") == [
        *("a downstream_data 2 1 0", "b new_connection 2", "connect"),
        *("b downstream_data 2 1 0", "> x"),
    ]


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
def test_connections_that_wait_for_a_vm_that_another_one_killed(worker: Worker, policy: str) -> None:
    plugin = worker.plugin("a", policy="fail_open" if policy == "fail_open" else "fail_closed")
    waits, kills = bind(plugin, PAUSED, owner="stream_route/1"), bind(plugin, "new_connection trap", owner="stream_route/2")
    Connection(worker, waits).begin()
    Connection(worker, kills).begin()
    worker.loop.advance(0.001)
    assert worker.take() == (["connect"] if policy == "fail_open" else ["abort"])


@pytest.mark.parametrize(("policy", "said"), [("fail_open", ["connect"]), ("fail_closed", ["abort"])])
def test_a_plugin_that_did_not_start(worker: Worker, policy: str, said: list[str]) -> None:
    binding = worker.bind("a", "configure return 0", policy="fail_open" if policy == "fail_open" else "fail_closed")
    assert Connection(worker, binding).begin()[-1:] == said


def test_one_vm_serves_requests_and_connections(worker: Worker) -> None:
    plugin = worker.plugin("a")
    requests, connections = bind(plugin, owner="route/1"), bind(plugin, owner="stream_route/1")
    case, connection = worker.open(requests), Connection(worker, connections)
    assert case.request()[0] == "a request_headers 2 4 1"
    assert connection.begin() == ["a new_connection 4", "connect"]
    assert case.response()[0].startswith("a response_headers 2")
    assert connection.down(b"x")[0] == "a downstream_data 4 1 0"
    case.finish()
    assert connection.up(b"y")[0] == "a upstream_data 4 1 0"
    connection.end()
    assert worker.take()[-1] == "a delete 4"


def test_a_retired_binding_is_let_go_with_its_last_connection(worker: Worker) -> None:
    connection = opened(worker, worker.bind("a"))
    binding_slot = connection.chain._links[0].slot
    worker.runtime._contexts.clear()
    binding_slot.retired = True  # type: ignore[misc]  # a ContextSlot's is no property
    connection.end()
    assert worker.take()[-2:] == ["a done 1", "a delete 1"]
