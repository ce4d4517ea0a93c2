"""A changed configuration takes effect while requests run, and none of them fails."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, Popen
from sys import executable
from typing import Any

import httpx
import pytest

from tests.support.command import ROOT, answers, free_port, running, wait_until

CLIENTS = 4
CHANGES = 12


class Clients:
    """Ask again and again over kept-alive connections, and keep the books: status and greeting of every answer."""

    def __init__(self, url: str) -> None:
        self.seen: Counter[tuple[int | str, str]] = Counter()
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not self._stop.is_set():
                try:
                    response = client.get(self._url)
                    self.seen[response.status_code, response.headers.get("x-greeting", "")] += 1
                except httpx.TransportError as error:
                    self.seen[repr(error), ""] += 1

    def saw(self, greeting: str) -> bool:
        return self.seen[200, greeting] > 0

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


def put(client: httpx.Client, path: str, **content: Any) -> None:  # noqa: ANN401 - as httpx has it
    response = client.put(path, **content)
    assert response.is_success, response.text


@pytest.mark.parametrize("name", ["c-greeting", "assemblyscript-greeting"])
def test_no_request_fails_while_the_plugin_is_changed(tmp_path: Path, name: str) -> None:
    admin, listen, upstream = (f"127.0.0.1:{free_port()}" for _ in range(3))
    module = (ROOT / ".build" / "plugins" / f"{name}.wasm").read_bytes()
    server = Popen([executable, "deploy/example/upstream.py", "--listen", upstream], cwd=ROOT, stderr=DEVNULL)
    settings = {"WASPGATE_ADMIN_KEY": "key", "WASPGATE_WORKERS": "2"}
    try:
        with running(["up", "--admin", admin, "--listen", listen], tmp_path, **settings) as command:
            command.wait_for(f"http://{admin}/apisix/admin/routes", 401)
            base = f"http://{admin}/apisix/admin/"
            with httpx.Client(base_url=base, headers={"X-API-KEY": "key"}, trust_env=False) as client:
                put(client, "wasm_plugins/greeting/module", content=module)
                service = {"plugins": {"greeting": {"conf": {"value": "0"}}}, "upstream": {"nodes": {upstream: 1}}}
                put(client, "services/s", json=service)
                put(client, "routes/r", json={"uri": "/hello", "service_id": "s"})
                wait_until(lambda: answers(f"http://{listen}/hello"), "the route is served")
                change_under_load(client, f"http://{listen}/hello")
            assert command.stop() == 0
    finally:
        server.terminate()
        server.wait(10)


def change_under_load(admin: httpx.Client, url: str) -> None:
    # Both workers have the route before anything is counted.
    wait_until(lambda: all(answers(url) for _ in range(20)), "all workers serve the route")
    clients = Clients(url)
    for change in range(1, CHANGES + 1):
        response = admin.patch("services/s/plugins/greeting/conf/value", json=str(change))
        assert response.is_success, response.text
        wait_until(partial(clients.saw, str(change)), f"change {change} takes effect")
    clients.stop()
    assert {status for status, _ in clients.seen} == {200}, clients.seen
    assert {greeting for _, greeting in clients.seen} >= {str(change) for change in range(1, CHANGES + 1)}
