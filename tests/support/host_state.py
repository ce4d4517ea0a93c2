"""Workers of a host as processes: each role below is one, started as `python -m tests.support.host_state ROLE DIRECTORY ...`.

A role says on its output, a line at a time, what it has done; it ends when its work or its input ends, or when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.keys import U64, rows
from shared.proxy_wasm.state.metric_table import MetricKind
from shared.proxy_wasm.state.ready import QUEUE
from shared.proxy_wasm.state.shared_data import ENTRY_OVERHEAD

ROOT = Path(__file__).resolve().parents[2]
VM = "vm"
COUNTER = b"counter"


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def add_one(state: HostState) -> Iterator[bool]:
    """A CAS writer, a step at a time, so that others come between its reading and its writing; true when it has added."""
    while True:
        value, cas = state.data.get(VM, COUNTER) or (b"0", 0)
        yield False
        status = state.data.set(VM, COUNTER, b"%d" % (int(value) + 1), cas)
        assert status in (Status.OK, Status.CAS_MISMATCH)
        yield status is Status.OK


def cas_writers(directory: Path, writers: int, times: int) -> None:
    """`writers` plugins in one worker, each adding one to the same value `times` times."""
    state = HostState(directory)
    say("ready")
    sys.stdin.readline()
    left = dict.fromkeys(range(writers), times)
    steps = {number: add_one(state) for number in range(writers)}
    mismatches = 0
    while left:
        number = random.choice(list(left))
        done = [next(steps[number]) for _ in range(random.choice((1, 1, 2)))]
        left[number] -= sum(done)
        mismatches += not any(done)
        if left[number] <= 0:
            del left[number]
    state.close()
    say(mismatches)


def hold(directory: Path) -> None:
    """Stops in the middle of writing."""
    state = HostState(directory)
    with state.environment.write() as txn:
        for number in range(1000):
            txn.put(b"half %d" % number, b"done", db=state.environment.tables.data)
        say("holding")
        sys.stdin.readline()


def look(directory: Path) -> None:
    """Stops in the middle of reading."""
    state = HostState(directory)
    with state.environment.read():
        say("looking")
        sys.stdin.readline()


def write_everything(directory: Path, started: int) -> None:
    state = HostState(directory)
    plugin = state.plugin_metrics()
    _, counter = plugin.define(0, b"writes")
    _, queue = state.queues.register(VM, b"queue", os.getpid())
    os.write(started, b"!")
    while True:
        plugin.increment(counter, 1)
        state.data.set(VM, random.randbytes(1), random.randbytes(random.randrange(3000)))
        state.queues.enqueue(queue, random.randbytes(random.randrange(3000)))
        state.queues.dequeue(queue)
        state.take_ready()
        state.metrics.flush()


def killed_writers(directory: Path, rounds: int) -> None:
    """Forks workers that write all the time, and kills each within milliseconds, wherever it is."""
    for _ in range(rounds):
        reading, started = os.pipe()
        child = os.fork()
        if not child:
            try:
                write_everything(directory, started)
            finally:
                os._exit(1)
        os.close(started)
        assert os.read(reading, 1) == b"!"
        time.sleep(random.random() * 0.008)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        os.close(reading)
    say(rounds)


def producer(directory: Path, tag: str, items: int) -> None:
    state = HostState(directory)
    queue = state.queues.resolve(VM, b"queue")
    assert queue is not None
    for number in range(items):
        assert state.queues.enqueue(queue, f"{tag}{number}".encode()) is Status.OK
    state.close()


def poller(directory: Path) -> None:
    """A consumer that nobody tells: takes what it finds until it takes the item `end`."""
    state = HostState(directory)
    queue = state.queues.resolve(VM, b"queue")
    assert queue is not None
    say("ready")
    item = b""
    while item != b"end":
        status, item = state.queues.dequeue(queue)
        if status is Status.OK:
            say("item", item.decode())
    state.close()


def registrant(directory: Path, owner: int, take: bool) -> None:
    """A consumer that dequeues once for each event, or only says how many there were."""
    state = HostState(directory)
    _, queue = state.queues.register(VM, b"queue", owner)

    def deliver() -> None:
        for told, of in state.take_ready():
            assert (told, of) == (owner, queue)
            status, item = state.queues.dequeue(queue) if take else (Status.EMPTY, b"")
            say("event", item.decode() if status is Status.OK else "-")

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(state.ready_fd(), deliver)
        loop.add_reader(sys.stdin, ended.set_result, None)
        say("ready")
        await ended

    asyncio.run(serve())
    state.close()


def counting(directory: Path, times: int) -> None:
    """Counts, flushes, says so, and counts on without flushing."""
    state = HostState(directory)
    plugin = state.plugin_metrics()
    ids = [plugin.define(kind, b"m.route=r%d" % kind)[1] for kind in range(3)]
    for _ in range(times):
        for metric in ids:
            plugin.record(metric, 2)
    state.metrics.flush()
    plugin.record(ids[0], 1000)
    say("flushed")
    sys.stdin.readline()
    state.close()


def told(directory: Path, text: str, requests: int) -> None:
    """Reports, counts requests, and waits."""
    state = HostState(directory)
    stat = state.gateway.stat(MetricKind.COUNTER, b"requests")
    assert stat is not None
    stat.numbers[0] = requests
    state.report(text.encode())
    state.tend()
    say("told")
    sys.stdin.readline()
    state.close()


ROLES: dict[str, Callable[..., None]] = {
    "cas_writers": cas_writers,
    "hold": hold,
    "look": look,
    "killed_writers": killed_writers,
    "producer": producer,
    "poller": poller,
    "registrant": registrant,
    "counting": counting,
    "told": told,
}


class Role:
    """A running role, as its test sees it."""

    def __init__(self, role: Callable[..., None], directory: Path, *arguments: int | str) -> None:
        command = [sys.executable, "-m", "tests.support.host_state", role.__name__, str(directory), *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def go(self) -> None:
        """The line, or the end of input, that a role waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def rest(self) -> list[str]:
        """All that it says until its end, which must be a good one."""
        out, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        return out.splitlines()

    def kill(self) -> list[str]:
        """What it had said."""
        self.process.kill()
        out, _ = self.process.communicate(timeout=20)
        return out.splitlines()


@contextmanager
def roles() -> Iterator[Callable[..., Role]]:
    """Starts roles; those that still run at the end are killed."""
    started: list[Role] = []

    def start(role: Callable[..., None], directory: Path, *arguments: int | str) -> Role:
        started.append(Role(role, directory, *arguments))
        return started[-1]

    try:
        yield start
    finally:
        for role in started:
            if role.process.poll() is None:
                role.kill()


def assert_consistent(environment: Environment) -> None:
    """What is counted beside the rows is what the rows come to."""
    tables = environment.tables
    with environment.read() as txn:
        for vm, counted in rows(txn, tables.data_size):
            held = [len(key) + len(row) + ENTRY_OVERHEAD for key, row in rows(txn, tables.data, vm)]
            assert counted == U64.pack(sum(held)) + U64.pack(len(held))
        assert sum(1 for _ in rows(txn, tables.data)) == sum(U64.unpack(row[8:])[0] for _, row in rows(txn, tables.data_size))
        for queue, record in rows(txn, tables.queues):
            _, first, following, size = QUEUE.unpack(record)
            items = list(rows(txn, tables.items, queue))
            assert [U64.unpack(key[4:])[0] for key, _ in items] == list(range(first, following))
            assert sum(len(item) for _, item in items) == size
        registrants = {key[:4] + row for key, row in rows(txn, tables.registrants)}
        assert registrants == {key[16:] + key[:16] for key, _ in rows(txn, tables.registrations)}
        living = {key for key, _ in rows(txn, tables.workers)}
        for table in (tables.ready, tables.metrics, tables.gateway):
            assert {key[:8] for key, _ in rows(txn, table)} <= living | {U64.pack(0)}
        assert {key for key, _ in rows(txn, tables.reports)} <= living


if __name__ == "__main__":
    name, place, *rest = sys.argv[1:]
    ROLES[name](Path(place), *(int(argument) if argument.isdigit() else argument for argument in rest))
