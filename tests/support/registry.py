"""A registry on the loopback interface: as much of the distribution protocol as a pull takes, and its unpleasant moments.

The law: a test says what the registry holds (`push`) and what it wants (`access`); what it was asked is in `asked`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
WASM_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"
TAR_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
USER = "robot:secret"
TOKEN = "a-token"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def archive(files: dict[str, bytes], *, packed: bool = True) -> bytes:
    """A layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue()) if packed else buffer.getvalue()


@dataclass(slots=True)
class Registry:
    """`access`: what it wants before it answers. `blobs_at`: another server that its blobs are at."""

    port: int = 0
    access: Literal["open", "token", "user-token", "basic", "strange"] = "open"
    blobs_at: str = ""
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # Of each request: its Host, and its Authorization if it has one.
    hosts: list[str] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def blob(self, data: bytes) -> str:
        digest = digest_of(data)
        self.documents[f"blobs/{digest}"] = ("application/octet-stream", data)
        return digest

    def push(self, tag: str, *layers: tuple[str, bytes]) -> str:
        """An image of these (media type, bytes); answers the manifest's digest."""
        entries = [{"mediaType": kind, "digest": self.blob(data), "size": len(data)} for kind, data in layers]
        return self.manifest(tag, {"schemaVersion": 2, "mediaType": MANIFEST, "layers": entries})

    def manifest(self, tag: str, document: object) -> str:
        data = json.dumps(document).encode()
        kind = document.get("mediaType", MANIFEST) if isinstance(document, dict) else MANIFEST
        for name in (tag, digest_of(data)):
            self.documents[f"manifests/{name}"] = (kind, data)
        return digest_of(data)

    def took(self, kind: str) -> int:
        return sum(path.startswith(f"/v2/team/plugin/{kind}/") for path in self.asked)

    # --- the server's side

    def challenge(self, authorization: str | None) -> str | None:
        """What is missing, as WWW-Authenticate says it."""
        base = f"http://{self.host}/token"
        match self.access:
            case "token" | "user-token" if authorization != f"Bearer {TOKEN}":
                return f'Bearer realm="{base}",service="the registry",scope="repository:team/plugin:pull"'
            case "basic" if authorization != basic(USER):
                return 'Basic realm="the registry"'
            case "strange":
                return 'Negotiate realm="x"'
        return None

    def token(self, query: str, authorization: str | None) -> dict[str, str] | None:
        wanted = {"service": ["the registry"], "scope": ["repository:team/plugin:pull"]}
        if parse_qs(query) != wanted or (self.access == "user-token" and authorization != basic(USER)):
            return None
        return {"access_token" if self.access == "user-token" else "token": TOKEN}


def basic(user: str) -> str:
    return f"Basic {base64.b64encode(user.encode()).decode()}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        registry, parts = self.registry, urlsplit(self.path)
        authorization = self.headers.get("authorization")
        registry.asked.append(parts.path)
        registry.hosts.append(self.headers["host"])
        registry.shown.append(authorization)
        if parts.path == "/token":
            token = registry.token(parts.query, authorization)
            return self.answer(200, json.dumps(token).encode()) if token else self.answer(401)
        challenge = registry.challenge(authorization)
        if challenge is not None:
            return self.answer(401, www_authenticate=challenge)
        name = parts.path.removeprefix("/v2/team/plugin/")
        if registry.blobs_at and name.startswith("blobs/"):
            return self.answer(307, location=f"{registry.blobs_at}{parts.path}")
        kind, data = registry.documents.get(name, ("", b""))
        return self.answer(200, data, content_type=kind) if kind else self.answer(404)


@contextmanager
def registry() -> Iterator[Registry]:
    held = Registry()
    handler = type("RegistryHandler", (Handler,), {"registry": held})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        held.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
