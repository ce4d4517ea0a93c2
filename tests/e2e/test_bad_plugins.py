"""Bad modules in a real gateway: each fails alone, under its policy, with its name in the log, and can be replaced."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.command import wait_until
from tests.support.gateway import ScriptedUpstream, answering, ok, upstream
from tests.support.guest import build
from tests.support.raw_http import client
from tests.support.up import Up, waspgate_up

SOURCE = (Path(__file__).parents[1] / "support" / "guest_sources" / "bad.c").read_text()
FAILED = {"error_msg": "a plugin of this route failed"}
# The core's initial memory and the guest's stay far below; what may be added on top is Python's own noise.
MEMORY_LIMIT = 32 << 20
# 20 ms of CPU time, on a machine that others use as well.
SOON_SECONDS = 1.0

# What the plugin does -> a part of the log line that tells it.
FAILURES = {
    "TRAP_AT_START": "unreachable",
    "LOOP_AT_START": "interrupt",
    "REFUSE_VM_START": "vm_start",
    "TRAP_AT_CONFIGURE": "unreachable",
    "REFUSE_CONFIGURE": "configure",
    "TRAP_ON_REQUEST": "unreachable",
    "LOOP_ON_REQUEST": "interrupt",
    "RECURSE_ON_REQUEST": "stack",
    "ALLOCATE_ON_REQUEST": "unreachable",
}
POLICIES = ["fail_closed", "fail_open"]


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with upstream(answering(ok(b"hello"))) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, server: ScriptedUpstream) -> Iterator[Up]:
    """One gateway for all: whatever plugins did to it, the next test finds it whole."""
    with waspgate_up(tmp_path_factory.mktemp("up"), server.port) as started:
        started.put("routes/good", {"uri": "/good", "upstream": started.upstream})
        yield started
        events = [line["event"] for line in started.log() if line.get("worker") is not None]
        assert events.count("ready") == 1, "the worker was restarted"


class Suspect:
    """A plugin on a route of its own."""

    def __init__(self, up: Up, policy: str, what: str = "") -> None:
        self.up = up
        self.name = f"{what}-{policy}"
        self.path = f"/{self.name}"
        self.become(what)
        # The dry run would refuse some of them, and this is about what happens when it is not made.
        up.write(
            "PATCH", f"{self.key}?dry_run=false", json={"failure_policy": policy, "limits": {"memory_bytes": MEMORY_LIMIT}}
        )
        plugins = {self.name: {"conf": "x"}}
        up.put(f"routes/{self.name}?dry_run=false", {"uri": f"{self.path}*", "upstream": up.upstream, "plugins": plugins})
        up.settle()

    @property
    def key(self) -> str:
        return f"wasm_plugins/{self.name}"

    def become(self, what: str = "") -> None:
        """Without a name: a good plugin."""
        self.up.upload(self.name, build(SOURCE, defines=[what] if what else []), dry_run=False)

    def get(self) -> httpx.Response:
        return self.up.get(self.path)

    def failures(self) -> list[str]:
        """What the log says, as code and reason."""
        lines = [json.loads(line) for line in self.up.command.output.splitlines() if f'"{self.name}"' in line]
        own = [line for line in lines if line.get("plugin") == self.name and line["level"] == "error"]
        return [f"{line.get('code')} {line['reason']}" for line in own]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("what", FAILURES)
def test_a_plugin_that_fails_fails_alone_and_can_be_replaced(up: Up, what: str, policy: str) -> None:
    suspect = Suspect(up, policy, what)
    for _ in range(3):
        answer = suspect.get()
        assert (answer.status_code, "x-plugin" in answer.headers) == (503 if policy == "fail_closed" else 200, False)
        assert answer.json() == FAILED if policy == "fail_closed" else answer.text == "hello"
        assert up.get("/good").text == "hello"
    assert FAILURES[what] in suspect.failures()[0]

    suspect.become()
    wait_until(lambda: suspect.get().headers.get("x-plugin") == "was here", "the good module runs")
    assert [suspect.get().status_code for _ in range(5)] == [200] * 5


@pytest.mark.parametrize("policy", POLICIES)
def test_others_are_served_while_a_plugin_loops(up: Up, policy: str) -> None:
    suspect = Suspect(up, policy, "LOOP_ON_REQUEST")
    took: dict[str, list[float]] = {suspect.path: [], "/good": []}
    statuses: set[tuple[str, int]] = set()
    stop = threading.Event()

    def ask(path: str) -> None:
        with httpx.Client(base_url=f"http://{up.listen}", trust_env=False, timeout=10) as http:
            while not stop.is_set():
                began = time.monotonic()
                statuses.add((path, http.get(path).status_code))
                took[path].append(time.monotonic() - began)

    threads = [threading.Thread(target=ask, args=(path,)) for path in took]
    for thread in threads:
        thread.start()
    # The first loop, and one more after the pause that follows a failure.
    before = len(suspect.failures())
    wait_until(lambda: len(suspect.failures()) >= before + 2 and len(took["/good"]) > 50, "both were asked")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert statuses == {(suspect.path, 503 if policy == "fail_closed" else 200), ("/good", 200)}
    assert max(took[suspect.path] + took["/good"]) < SOON_SECONDS


def test_memory_that_a_plugin_takes_without_end_stays_within_its_limit(up: Up) -> None:
    suspect = Suspect(up, "fail_closed", "ALLOCATE_ON_REQUEST")
    worker = next(json.loads(line)["pid"] for line in up.command.output.splitlines() if '"worker"' in line)
    before = memory(worker, "VmRSS")
    told = len(suspect.failures())
    wait_until(lambda: suspect.get().status_code == 503 and len(suspect.failures()) >= told + 3, "it was tried several times")
    assert memory(worker, "VmHWM") - before < 2 * MEMORY_LIMIT
    # What it had is given back: the worker is not a limit larger for each failure.
    assert memory(worker, "VmRSS") - before < MEMORY_LIMIT


def memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) << 10


@pytest.mark.parametrize("policy", POLICIES)
def test_pointers_outside_the_plugins_memory_are_answered_and_harm_nothing(up: Up, policy: str) -> None:
    suspect = Suspect(up, policy, "WILD_POINTERS")
    answer = suspect.get()
    assert (answer.status_code, answer.text) == (200, "hello")
    # INVALID_MEMORY_ACCESS, each time.
    assert answer.headers["x-answers"] == " ".join(["6"] * 8)
    assert suspect.failures() == []


@pytest.mark.parametrize("policy", POLICIES)
def test_line_ends_in_a_header_never_reach_a_wire(up: Up, server: ScriptedUpstream, policy: str) -> None:
    suspect = Suspect(up, policy, "INJECT")
    port = int(up.listen.rpartition(":")[2])
    # Five ways to write a field, for the request and for the response; and one more in a local reply.
    for path, tried in ((suspect.path, 10), (f"{suspect.path}/reply", 11)):
        with client(port) as raw:
            answer = raw.get(path.encode())
        assert (answer.status, answer.body) == (200, b"hello")
        # BAD_ARGUMENT, each time.
        assert answer.field(b"x-answers") == b" ".join([b"2"] * tried)
        assert b"injected" not in answer.head
        assert answer.field(b"x-a") is None
        assert f"GET {path} HTTP/1.1\r\n".encode() in server.received
    assert b"injected" not in server.received


def test_two_plugins_on_one_route_where_one_fails(up: Up) -> None:
    suspect = Suspect(up, "fail_open", "TRAP_ON_REQUEST")
    up.upload("other", build(SOURCE))
    up.write("PATCH", f"routes/{suspect.name}", json={"plugins": {"other": {"conf": "x"}}})
    up.settle()
    answer = suspect.get()
    assert (answer.status_code, answer.headers["x-plugin"]) == (200, "was here")
    up.write("PATCH", suspect.key, json={"failure_policy": "fail_closed"})
    wait_until(lambda: suspect.get().status_code == 503, "the policy is changed")
    assert suspect.get().json() == FAILED
