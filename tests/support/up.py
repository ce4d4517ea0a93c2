"""A fresh `waspgate up`, with one worker unless a test wants more: an operator's view (the Admin API, the log) and a client's.

The law: a change is waited for on a route of its own without plugins, so that waiting opens no context of the plugins
under test. A worker applies writes in their order: who sees the last one sees all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.support.command import Command, free_port, running, wait_until

HOST = "127.0.0.1"
KEY = "key"


@dataclass(slots=True)
class Up:
    """Paths of the Admin API are relative to /apisix/admin."""

    command: Command
    admin: httpx.Client
    listen: str
    upstream: dict[str, Any]
    _marks: Iterator[int] = field(default_factory=lambda: count(1))
    _read: int = 0

    def put(self, path: str, document: object) -> dict[str, Any]:
        return self.write("PUT", path, json=document)

    def upload(self, name: str, module: bytes, *, dry_run: bool = True) -> dict[str, Any]:
        return self.write("PUT", f"wasm_plugins/{name}/module{_asking(dry_run)}", content=module)

    def write(self, verb: str, path: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - as httpx has it
        response = self.admin.request(verb, path, **body)
        assert response.is_success, (verb, path, response.text)
        answer: dict[str, Any] = response.json()
        return answer

    def settle(self) -> None:
        """Until the worker serves everything written so far. Not with global rules: they run for this request too."""
        mark = f"/mark-{next(self._marks)}"
        self.put("routes/mark", {"uri": mark, "upstream": self.upstream})
        wait_until(lambda: self.get(mark).status_code == 200, "the worker serves the last write")

    def get(self, path: str = "/", host: str = "any.test", **options: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has it
        options.setdefault("timeout", 10)
        return httpx.get(f"http://{self.listen}{path}", headers={"Host": host}, trust_env=False, **options)

    @property
    def pages(self) -> dict[str, str]:
        """Where the Prometheus page and the control API are, as the data plane says."""
        lines = [json.loads(line) for line in self.command.output.splitlines() if "data plane is starting" in line]
        return {name: f"http://{lines[0][name]}" for name in ("prometheus", "control")}

    def metrics(self) -> str:
        response = httpx.get(f"{self.pages['prometheus']}/apisix/prometheus/metrics", trust_env=False, timeout=10)
        assert response.status_code == 200, response.text
        return response.text

    def control(self, path: str) -> Any:  # noqa: ANN401 - JSON
        response = httpx.get(f"{self.pages['control']}{path}", trust_env=False, timeout=10)
        assert response.status_code == 200, response.text
        return response.json()

    def log(self) -> list[dict[str, Any]]:
        """The log's lines since the last call."""
        whole = self.command.output
        complete = whole.rfind("\n") + 1
        lines = whole[self._read : complete].splitlines()
        self._read = complete
        return [json.loads(line) for line in lines]


def _asking(dry_run: bool) -> str:
    return "" if dry_run else "?dry_run=false"


@contextmanager
def waspgate_up(folder: Path, upstream_port: int, workers: int = 1, **more: str) -> Iterator[Up]:
    """With an empty store; it must still run when the test is done, and end by its signal without a traceback."""
    admin, listen = (f"{HOST}:{free_port()}" for _ in range(2))
    settings = {"WASPGATE_ADMIN_KEY": KEY, "WASPGATE_WORKERS": str(workers)}
    settings |= {"WASPGATE_PROMETHEUS": f"{HOST}:0", "WASPGATE_CONTROL": f"{HOST}:0"} | more
    with running(["up", "--admin", admin, "--listen", listen], folder, **settings) as command:
        command.wait_for(f"http://{admin}/apisix/admin/routes", 401)
        command.wait_for(f"http://{listen}/", 404)
        base = f"http://{admin}/apisix/admin/"
        with httpx.Client(base_url=base, headers={"X-API-KEY": KEY}, trust_env=False, timeout=30) as client:
            yield Up(command, client, listen, {"nodes": {f"{HOST}:{upstream_port}": 1}})
        assert command.stop() == 0, command.output
        assert "Traceback" not in command.output
