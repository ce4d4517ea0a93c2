"""Which contexts a plugin sees: one PluginContext for each route that has it, whichever way, and ids as in APISIX.

The cases are those of APISIX's own Wasm tests (route.t and global-rule.t), and what they leave open: order and change.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import wait_until
from tests.support.gateway import ScriptedUpstream, UpstreamSide, ok, upstream
from tests.support.guest import build
from tests.support.up import Up, waspgate_up

SOURCE = Path(__file__).parents[1] / "support" / "guest_sources" / "contexts.c"
RUN = re.compile(r"run plugin ctx (\d+) with conf (.*) in http ctx (\d+)")
SLOW = b"/slow"
Seen = tuple[int, int]


class Slow:
    """An upstream that answers /slow only when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, side: UpstreamSide) -> None:
        while head := side.head():
            if head.split(b" ")[1] == SLOW:
                self.asked.set()
                self.go_on.wait(30)
            side.send(ok(b"hello"))


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def server(slow: Slow) -> Iterator[ScriptedUpstream]:
    with upstream(slow) as scripted:
        yield scripted
        slow.go_on.set()


@pytest.fixture
def up(tmp_path: Path, server: ScriptedUpstream) -> Iterator[Up]:
    with waspgate_up(tmp_path, server.port) as started:
        started.upload("wasm_log", build(SOURCE.read_text()))
        yield started


def conf(text: str = "blahblah") -> dict[str, Any]:
    return {"wasm_log": {"conf": text}}


def runs(up: Up) -> list[tuple[str, Seen]]:
    """(conf, (plugin context, stream context)) of every run since the last call, in order."""
    found = [RUN.fullmatch(line["event"]) for line in up.log()]
    return [(match[2], (int(match[1]), int(match[3]))) for match in found if match]


def ask(up: Up, *hosts: str) -> list[Seen]:
    """The contexts of one request to each host, one after the other."""
    runs(up)
    for host in hosts:
        assert up.get("/hello", host).status_code == 200
    return [seen for _, seen in runs(up)]


def two_routes(up: Up, **inherits: object) -> None:
    for route, host in (("1", "foo.com"), ("2", "bar.com")):
        up.put(f"routes/{route}", {"uris": ["/hello", SLOW.decode()], "host": host, "upstream": up.upstream, **inherits})
    up.settle()


def test_two_routes_on_one_service(up: Up) -> None:
    up.put("services/1", {"plugins": conf()})
    two_routes(up, service_id="1")
    assert ask(up, "foo.com", "bar.com", "foo.com", "bar.com") == [(1, 2), (3, 4), (1, 2), (3, 4)]


def test_two_routes_with_one_plugin_config(up: Up) -> None:
    up.put("plugin_configs/1", {"plugins": conf()})
    two_routes(up, plugin_config_id="1")
    assert ask(up, "foo.com", "bar.com", "foo.com", "bar.com") == [(1, 2), (3, 4), (1, 2), (3, 4)]


def test_the_first_request_makes_the_first_context(up: Up) -> None:
    up.put("services/1", {"plugins": conf()})
    two_routes(up, service_id="1")
    assert ask(up, "bar.com", "bar.com", "foo.com", "bar.com") == [(1, 2), (1, 2), (3, 4), (1, 2)]


@pytest.mark.parametrize(("phase", "order"), [("access", ["blahblah", "zzz"]), ("rewrite", ["zzz", "blahblah"])])
def test_two_plugins_of_one_module_have_a_vm_each(up: Up, phase: str, order: list[str]) -> None:
    up.write("PATCH", "wasm_plugins/wasm_log", json={"priority": 7999})
    module = up.admin.get("wasm_plugins/wasm_log").json()["value"]["module"]
    up.put("wasm_plugins/wasm_log2", {"priority": 7998, "http_request_phase": phase, "module": module})
    up.put("routes/1", {"uri": "/hello", "upstream": up.upstream, "plugins": conf() | {"wasm_log2": {"conf": "zzz"}}})
    up.settle()
    assert up.get("/hello").status_code == 200
    assert runs(up) == [(name, (1, 2)) for name in order]


def test_a_global_rule_and_a_route_have_contexts_of_their_own(up: Up) -> None:
    up.put("routes/1", {"uri": "/hello", "upstream": up.upstream})
    up.settle()
    up.put("global_rules/1", {"plugins": conf("everywhere")})
    seen = until_runs(up, 1)
    assert seen == [("everywhere", (1, 2))]

    up.put("routes/1", {"uri": "/hello", "upstream": up.upstream, "plugins": conf("here")})
    seen = until_runs(up, 2)
    assert seen == [("everywhere", (1, 2)), ("here", (3, 4))]
    assert up.get("/elsewhere").status_code == 404
    assert runs(up) == [("everywhere", (1, 2))]

    up.write("DELETE", "global_rules/1")
    wait_until(lambda: [conf for conf, _ in once(up)] == ["here"], "the global rule is gone")
    assert once(up) == [("here", (3, 4))]


def once(up: Up) -> list[tuple[str, Seen]]:
    runs(up)
    assert up.get("/hello").status_code == 200
    return runs(up)


def until_runs(up: Up, number: int) -> list[tuple[str, Seen]]:
    """The first request that runs so many plugins. A global rule would run for a marking request as well."""
    seen: list[tuple[str, Seen]] = []

    def reached() -> bool:
        seen[:] = once(up)
        return len(seen) == number

    wait_until(reached, f"{number} plugins run")
    return seen


def test_a_changed_conf_makes_a_new_context_in_the_place_of_the_old(up: Up) -> None:
    two_routes(up)
    up.write("PATCH", "routes/1", json={"plugins": conf("old")})
    up.write("PATCH", "routes/2", json={"plugins": conf("other")})
    up.settle()
    assert ask(up, "foo.com", "bar.com") == [(1, 2), (3, 4)]

    up.write("PATCH", "routes/1/plugins/wasm_log/conf", json="new")
    up.settle()
    assert [line["event"] for line in up.log() if line["event"].startswith("delete")] == ["delete plugin ctx 1"]
    up.get("/hello", "foo.com")
    assert runs(up) == [("new", (1, 2))]
    assert ask(up, "bar.com", "foo.com") == [(3, 4), (1, 2)]


def test_a_change_that_says_the_same_keeps_the_context(up: Up) -> None:
    up.put("services/1", {"plugins": conf()})
    two_routes(up, service_id="1")
    assert ask(up, "foo.com", "bar.com") == [(1, 2), (3, 4)]

    up.write("PATCH", "services/1", json={"desc": "changed", "plugins": conf()})
    up.write("PATCH", "routes/1", json={"name": "renamed"})
    up.settle()
    assert ask(up, "bar.com", "foo.com") == [(3, 4), (1, 2)]
    assert "delete plugin ctx" not in up.command.output


def test_a_request_in_flight_ends_on_the_context_that_it_began_with(up: Up, slow: Slow) -> None:
    two_routes(up)
    up.write("PATCH", "routes/1", json={"plugins": conf("old")})
    up.write("PATCH", "routes/2", json={"plugins": conf("other")})
    up.settle()
    assert ask(up, "bar.com") == [(1, 2)]
    waiting = threading.Thread(target=up.get, args=(SLOW.decode(), "foo.com"), kwargs={"timeout": 60})
    waiting.start()
    assert slow.asked.wait(10)
    assert runs(up) == [("old", (3, 4))]

    up.write("PATCH", "routes/1/plugins/wasm_log/conf", json="new")
    up.settle()
    assert ask(up, "foo.com") == [(5, 6)]
    assert "delete plugin ctx" not in up.command.output
    slow.go_on.set()
    waiting.join(30)
    wait_until(lambda: "delete plugin ctx 3" in up.command.output, "the old context is deleted")

    # What it had is free now, smallest first.
    up.put("routes/3", {"uri": "/hello", "host": "baz.com", "upstream": up.upstream, "plugins": conf("third")})
    up.settle()
    assert ask(up, "baz.com", "foo.com", "bar.com") == [(3, 4), (5, 6), (1, 2)]
