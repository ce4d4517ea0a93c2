"""Plugins that authenticate, hold bodies, compress and log, in a gateway of two workers, as an operator writes them.

One server is the upstream, the service that is asked and the collector of logs.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import re
import socket
import threading
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.command import wait_until
from tests.support.gateway import UpstreamSide, ok, upstream
from tests.support.guest import console
from tests.support.up import Up, waspgate_up

LENGTH = re.compile(rb"(?i)content-length: (\d+)")
SECRET = "a secret of jack that nobody else knows"
PAGE = b"<p>hello</p>" * 100


def unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


class Server:
    """`heads` are those of requests that have come through, `collected` the entries."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.collected: list[dict[str, Any]] = []
        self.next_event = threading.Event()

    def __call__(self, side: UpstreamSide) -> None:
        while head := side.head():
            path = head.split(b" ")[1]
            lengths = LENGTH.findall(head)
            if b"chunked" in head.lower():
                body = unchunked(side.until(b"\r\n0\r\n\r\n"))
            else:
                body = side.body(int(lengths[0])) if lengths else b""
            if path == b"/logs":
                self.collected += json.loads(body)
                side.send(ok(b""))
            elif path == b"/check":
                said = b"x-user: %d" % len(body) if b"authorization: good" in head.lower() else b""
                side.send(ok(b"", said) if said else b"HTTP/1.1 401 No\r\nContent-Length: 2\r\nX-Why: who\r\n\r\nno")
            elif path == b"/events":
                self._events(side)
            else:
                self.heads.append(head)
                self.bodies.append(body)
                side.send(ok(PAGE, b"Content-Type: text/html", b'ETag: "v1"'))

    def _events(self, side: UpstreamSide) -> None:
        side.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: 1\r\n")
        assert self.next_event.wait(10)
        side.send(b"7\r\ndata: 2\r\n0\r\n\r\n")


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plugins")


@pytest.fixture(scope="module")
def up(server: Server, folder: Path) -> Iterator[Up]:
    with upstream(server) as scripted:
        port = scripted.port
        with waspgate_up(folder, port, workers=2) as gateway:
            configure(gateway, f"http://127.0.0.1:{port}", folder)
            yield gateway
            assert SECRET not in gateway.command.output
        # What a worker had not sent yet when it ended.
        paths = {entry["request"]["uri"] for entry in server.collected}
        assert "/logged/last" in paths


def configure(up: Up, url: str, folder: Path) -> None:
    jack = {"jwt-auth": {"key": "jack-key", "secret": SECRET}, "hmac-auth": {"key_id": "jack-id", "secret_key": SECRET}}
    up.put("consumers", {"username": "jack", "plugins": jack})
    up.upload("wasm", console())
    body = {"body_schema": {"type": "object", "required": ["id"]}}
    service = {"uri": f"{url}/check", "request_headers": ["Authorization"], "upstream_headers": ["X-User"]}
    routes: dict[str, dict[str, Any]] = {
        "jwt": {"jwt-auth": {"hide_credentials": True}},
        "hmac": {"hmac-auth": {"validate_request_body": True}},
        "forward": {"forward-auth": service},
        "asked": {"forward-auth": {**service, "request_method": "POST", "client_headers": ["X-Why"]}},
        "valid": {"request-validation": body},
        "mixed": {
            "request-validation": body,
            "wasm": {"conf": "request_headers add 0 x-wasm 1"},
            "file-logger": {"path": str(folder / "mixed.log"), "include_req_body": True, "max_req_body_bytes": 7},
        },
        "gzip": {"gzip": {"types": ["text/html", "text/event-stream"]}},
        "both": {"gzip": {}, "wasm": {"conf": "response_headers add 2 x-wasm 1"}},
        "logged": {
            "http-logger": {"uri": f"{url}/logs", "include_req_body": True, "inactive_timeout": 60},
            "file-logger": {"path": str(folder / "access.log"), "log_format": {"uri": "$uri", "status": "$status"}},
        },
    }
    for name, plugins in routes.items():
        up.put(f"routes/{name}", {"uris": [f"/{name}", f"/{name}/*"], "plugins": plugins, "upstream": up.upstream})
    up.put("routes/events", {"uri": "/events", "plugins": routes["gzip"], "upstream": up.upstream})
    up.settle()


def asked(up: Up, path: str, method: str = "GET", **options: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has it
    return httpx.request(method, f"http://{up.listen}{path}", trust_env=False, timeout=10, **options)


def part(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def token(secret: str = SECRET) -> str:
    text = f"{part({'alg': 'HS256'})}.{part({'key': 'jack-key'})}"
    signature = hmac.new(secret.encode(), text.encode(), "sha256").digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_a_token_tells_its_consumer(up: Up, server: Server) -> None:
    answer = asked(up, "/jwt", headers={"Authorization": f"Bearer {token()}", "X-Consumer-Username": "root"})
    assert answer.status_code == 200
    head = server.heads[-1].lower()
    assert b"x-consumer-username: jack\r\n" in head
    assert b"root" not in head
    assert b"authorization" not in head
    refused = asked(up, "/jwt", headers={"Authorization": f"Bearer {token('other')}"})
    assert (refused.status_code, refused.json()) == (401, {"message": "failed to verify jwt"})


def test_a_signature_tells_its_consumer(up: Up) -> None:
    def signed(target: str, body: bytes) -> dict[str, str]:
        date = formatdate(usegmt=True)
        text = f"jack-id\nPOST {target}\ndate: {date}\n"
        signature = base64.b64encode(hmac.new(SECRET.encode(), text.encode(), "sha256").digest()).decode()
        fields = f'keyId="jack-id",algorithm="hmac-sha256",headers="@request-target date",signature="{signature}"'
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return {"Date": date, "Authorization": f"Signature {fields}", "Digest": f"SHA-256={digest}"}

    body = b"x" * 200_000
    assert asked(up, "/hmac?a=1", "POST", headers=signed("/hmac?a=1", body), content=body).status_code == 200
    assert asked(up, "/hmac?a=2", "POST", headers=signed("/hmac?a=1", body), content=body).status_code == 401
    assert asked(up, "/hmac?a=1", "POST", headers=signed("/hmac?a=1", body), content=body[:-1]).status_code == 401


@pytest.mark.parametrize(("path", "size"), [("/forward", 0), ("/asked", 100_000)])
def test_another_service_says_whether(up: Up, server: Server, path: str, size: int) -> None:
    answer = asked(up, path, "POST", headers={"Authorization": "good", "X-User": "root"}, content=b"x" * 100_000)
    assert answer.status_code == 200
    assert b"x-user: %d\r\n" % size in server.heads[-1].lower()
    assert b"root" not in server.heads[-1]
    assert len(server.bodies[-1]) == 100_000
    refused = asked(up, path, headers={"Authorization": "bad"})
    assert (refused.status_code, refused.text) == (401, "no")
    assert refused.headers.get("x-why") == ("who" if path == "/asked" else None)


@pytest.mark.parametrize("path", ["/valid", "/mixed"])
def test_bodies_are_held_to_a_schema(up: Up, server: Server, path: str) -> None:
    def pieces(document: bytes) -> Iterator[bytes]:
        for at in range(0, len(document), 50_000):
            yield document[at : at + 50_000]

    good = json.dumps({"id": 1, "more": "x" * 300_000}).encode()
    before = len(server.heads)
    assert asked(up, path, "POST", content=good).status_code == 200
    assert asked(up, path, "POST", content=pieces(good)).status_code == 200
    assert server.bodies[-2] == good
    refused = asked(up, path, "POST", content=b"{}")
    assert (refused.status_code, refused.text) == (400, 'property "id" is required')
    assert asked(up, path, "POST", content=b" " * 1_100_000).status_code == 413
    assert len(server.heads) == before + 2
    assert (b"x-wasm: 1" in server.heads[-1]) is (path == "/mixed")


def test_a_log_beside_a_wasm_plugin(up: Up, folder: Path) -> None:
    path = folder / "mixed.log"
    before = path.read_bytes().count(b"\n") if path.exists() else 0
    assert asked(up, "/mixed/log", "POST", content=b'{"id": 1, "more": 2}').status_code == 200
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") > before, "the line is there")
    (entry,) = [entry for entry in map(json.loads, path.read_bytes().splitlines()) if entry["request"]["uri"] == "/mixed/log"]
    assert entry["request"]["body"] == '{"id": '
    assert (entry["response"]["status"], entry["request"]["size"], entry["response"]["size"]) == (200, 20, len(PAGE))
    assert entry["request"]["headers"]["x-wasm"] == "1"


@pytest.mark.parametrize("path", ["/gzip", "/both"])
def test_compressed_for_who_takes_it(up: Up, path: str) -> None:
    with httpx.stream("GET", f"http://{up.listen}{path}", headers={"Accept-Encoding": "gzip"}, trust_env=False) as answer:
        assert gzip.decompress(b"".join(answer.iter_raw())) == PAGE
        assert (answer.headers["content-encoding"], answer.headers["etag"]) == ("gzip", 'W/"v1"')
    plain = asked(up, path, headers={"Accept-Encoding": "identity"})
    assert (plain.content, plain.headers.get("content-encoding")) == (PAGE, None)


def test_events_come_one_by_one_through_gzip(up: Up, server: Server) -> None:
    read = zlib.decompressobj(31)
    with httpx.stream("GET", f"http://{up.listen}/events", headers={"Accept-Encoding": "gzip"}, trust_env=False) as answer:
        pieces = answer.iter_raw()
        seen = b""
        while seen != b"data: 1":
            seen += read.decompress(next(pieces))
        server.next_event.set()
        assert seen + b"".join(map(read.decompress, pieces)) == b"data: 1data: 2"


def test_a_file_is_written_by_all_workers_and_opened_anew(up: Up, folder: Path) -> None:
    path, moved = folder / "access.log", folder / "access.log.1"

    def lines(file: Path) -> list[str]:
        return [json.loads(line)["uri"] for line in file.read_bytes().splitlines()] if file.exists() else []

    for number in range(20):
        assert asked(up, f"/logged/{number}").status_code == 200
    wait_until(lambda: len(lines(path)) == 20, "the file has all lines")
    assert sorted(lines(path)) == sorted(f"/logged/{number}" for number in range(20))
    path.rename(moved)
    asked(up, "/logged/new")
    wait_until(lambda: lines(path) == ["/logged/new"], "a new file has the next line")


def test_what_waits_is_sent_when_the_configuration_goes(up: Up, server: Server) -> None:
    assert asked(up, "/logged/last", "POST", content=b"hello").status_code == 200
    document = up.admin.get("routes/logged").json()["value"]
    kept = document["plugins"]["http-logger"]
    up.admin.patch("routes/logged", json={"plugins": {"http-logger": None}})
    wait_until(lambda: any(entry["request"]["uri"] == "/logged/last" for entry in server.collected), "the entry has come")
    (entry,) = [entry for entry in server.collected if entry["request"]["uri"] == "/logged/last"]
    assert (entry["request"]["body"], entry["response"]["status"], entry["route_id"]) == ("hello", 200, "logged")
    up.admin.patch("routes/logged", json={"plugins": {"http-logger": kept}})
    server.collected.clear()
    up.settle()
    # Sent when the gateway ends (the fixture looks).
    assert asked(up, "/logged/last").status_code == 200
    assert server.collected == []


def test_a_client_that_leaves_in_its_body_is_let_go(up: Up) -> None:
    host, _, port = up.listen.partition(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(b"POST /valid HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n{")
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(65536) == b""
