"""A server that answers as Vault's KV engines do, both versions: `secrets` by path, behind one token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Vault:
    """`down`: it answers as a sealed Vault does. Paths are those behind `/v1/`."""

    port: int
    token: str = "vault-token"
    down: bool = False
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, token: str | None, namespace: str | None) -> tuple[int, dict[str, Any]]:
        self.asked.append((path, namespace))
        if self.down:
            return 503, {"errors": ["Vault is sealed"]}
        if token != self.token:
            return 403, {"errors": ["permission denied"]}
        name = path.removeprefix("/v1/")
        second = name.partition("/data/")
        if second[1]:
            secret = self.secrets.get(f"{second[0]}/{second[2]}")
            return (404, {"errors": []}) if secret is None else (200, {"data": {"data": secret, "metadata": {"version": 1}}})
        secret = self.secrets.get(name)
        return (404, {"errors": []}) if secret is None else (200, {"data": secret, "lease_duration": 2764800})


@contextmanager
def vault() -> Iterator[Vault]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answering.answer(self.path, self.headers["X-Vault-Token"], self.headers["X-Vault-Namespace"])
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answering = Vault(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield answering
    server.shutdown()
    server.server_close()
    thread.join()
