"""A whole configuration by the command line: apply, diff, dump; and what the gateway makes of a request."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvicorn

from control_plane.app import create_app
from control_plane.security import Guard
from shared.store.url import open_store
from tests.integration.cli.conftest import Ended, Waspgate
from tests.support.admin import KEY, shared_sandbox

GATEWAY = """\
upstreams:
  - id: u
    nodes: {"127.0.0.1:1980": 1}
services:
  - id: s
    upstream_id: u
    plugins:
      response-rewrite: {headers: {set: {X-Service: s}}}
routes:
  - id: hello
    uri: /hello/*
    methods: [GET]
    service_id: s
    vars: [[http_x_version, "==", "2"]]
  - id: other
    uri: /hello/*
    host: other.example.com
    service_id: s
  - id: elsewhere
    uri: /elsewhere
    service_id: s
#END
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    admin: str
    store: str
    waspgate: Waspgate

    def run(self, *arguments: str | Path) -> Ended:
        return self.waspgate(*arguments, "--admin", self.admin, "--admin-key", KEY)


@pytest.fixture
def gateway(tmp_path: Path, waspgate: Waspgate) -> Iterator[Gateway]:
    """The Admin API in a thread of its own: commands are no coroutines."""
    store = f"sqlite:///{tmp_path}/config.db"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(_serve(store, listener, stop)))
        thread.start()
        yield Gateway(f"127.0.0.1:{listener.getsockname()[1]}", store, waspgate)
        stop.set()
        thread.join()


async def _serve(url: str, listener: socket.socket, stop: threading.Event) -> None:
    async with open_store(url) as store:
        guard = replace(Guard.of([KEY]), audit=lambda _line: None)
        app = create_app(store, guard=guard, sandbox=shared_sandbox())
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, server_header=False))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            await asyncio.to_thread(stop.wait)
            server.should_exit = True


def test_a_configuration_as_a_file(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GATEWAY)

    before = gateway.run("diff", file)
    applied = gateway.run("apply", file)
    again = gateway.run("apply", file)
    same = gateway.run("diff", file)
    dumped = gateway.run("dump")
    back = tmp_path / "dumped.yaml"
    back.write_text(dumped.out)
    circle = gateway.run("diff", back, "--prune", "all")
    file.write_text(
        GATEWAY.replace("127.0.0.1:1980", "127.0.0.1:1981").replace(
            "  - id: elsewhere\n    uri: /elsewhere\n    service_id: s\n", ""
        )
    )
    changed = gateway.run("diff", file)
    dry = gateway.run("apply", file, "--dry-run", "--output", "json")

    assert (before.status, before.err) == (1, "")
    assert "+ routes/hello" in before.out
    assert applied.status == 0
    assert applied.out.endswith("5 created, 0 changed, 0 deleted, 0 unchanged\n")
    assert again.out == "nothing changes\n"
    assert (same.status, same.out) == (0, "")
    assert dumped.out.endswith("#END\n")
    assert "_conf_version" not in dumped.out
    assert (circle.status, circle.out) == (0, "")
    assert changed.status == 1
    assert set(changed.out.splitlines()) == {
        "~ upstreams/u",
        '    - $.nodes["127.0.0.1:1980"]: 1',
        '    + $.nodes["127.0.0.1:1981"]: 1',
        "- routes/elsewhere",
    }
    assert json.loads(dry.out)["replace"] == 1
    assert gateway.run("diff", file).status == 1


def test_sections_that_a_file_lacks_stay(gateway: Gateway, tmp_path: Path) -> None:
    file, part = tmp_path / "gateway.yaml", tmp_path / "part.json"
    file.write_text(GATEWAY)
    part.write_text('{"consumers": [{"username": "jack"}]}')
    gateway.run("apply", file)

    assert gateway.run("apply", part).out == "+ consumers/jack\n1 created, 0 changed, 0 deleted, 0 unchanged\n"
    assert gateway.run("diff", file).status == 0
    assert json.loads(gateway.run("dump", "consumers", "--format", "json").out) == {"consumers": [{"username": "jack"}]}
    assert gateway.run("diff", part, "--prune", "none").status == 0
    assert "- routes/hello" in gateway.run("diff", part, "--prune", "all").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routes:\n  - id: 1\n    id: 2\n", "gateway.yaml: duplicate key 'id' at line 3 column 5"),
        ("routes:\n  - id: 1\n    uri: 5\n    upstream_id: 7\n", "gateway.yaml: $.routes[0].uri: "),
        ("routes:\n  - {id: 1, uri: /a, upstream_id: 7}\n", "gateway.yaml: $.routes[0]: failed to fetch upstream info"),
        ("- routes", "gateway.yaml: expected sections"),
        ("routs: []", "gateway.yaml: $.routs: unknown section"),
    ],
)
def test_mistakes_are_told_with_their_place(gateway: Gateway, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)

    ended = gateway.run("diff", file)

    assert ended.status == 2
    assert message in ended.err


def test_what_cannot_be_asked(gateway: Gateway, waspgate: Waspgate, tmp_path: Path) -> None:
    assert "No such file" in gateway.run("apply", tmp_path / "none.yaml").err
    assert "unknown kind routs" in gateway.run("dump", "routs").err
    assert "answers 401" in waspgate("dump", "--admin", gateway.admin, "--admin-key", "no").err


def test_what_a_request_meets(gateway: Gateway, waspgate: Waspgate, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GATEWAY)
    gateway.run("apply", file)

    taken = waspgate("explain", "get", "http://example.com/hello/a/../b?x=1", "-H", "X-Version: 2", "--store", gateway.store)
    nothing = waspgate("explain", "POST", "example.com/hello/b", "--store", gateway.store, "--output", "json")

    assert taken.status == 0
    lines = taken.out.splitlines()
    assert lines[0].startswith("GET example.com/hello/b (revision ")
    assert lines[1].startswith("route     hello: uri /hello/*, methods")
    assert lines[2] == "plugin    response-rewrite (native, priority 899, of route/hello)"
    assert lines[3] == 'upstream  upstream/u: http {"127.0.0.1:1980": 1}, roundrobin'
    assert lines[4:] == ["not taken elsewhere: path", "not taken other: host"]
    assert nothing.status == 1
    assert json.loads(nothing.out)["problem"] == "route_not_found"


def test_requests_that_are_none(waspgate: Waspgate) -> None:
    assert "expected NAME: VALUE" in waspgate("explain", "GET", "http://example.com/", "-H", "nothing").err
    assert "expected a URL" in waspgate("explain", "GET", "/path").err
