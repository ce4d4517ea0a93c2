"""A data plane of two workers that watches its upstreams: checks, names, TLS, as an operator configures and sees them."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from shared.keys import Kind, resource_key
from shared.store.url import open_store
from tests.support.certificates import make_certificates
from tests.support.command import wait_until
from tests.support.data_plane import DataPlane, data_plane
from tests.support.dns_server import DnsServer, dns_server
from tests.support.etcd import Certificates
from tests.support.gateway import HOST

OTHER_HOST = "127.0.0.2"


class Server(ThreadingHTTPServer):
    """Answers every request with its name, and `status`; `who` are the names that its clients' certificates had."""

    daemon_threads = True
    # A client that is reset is no news.
    handle_error = staticmethod(lambda request, client_address: None)

    def __init__(self, name: str, host: str = HOST, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        super().__init__((host, port), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.name = name
        self.status = 200
        self.port = self.server_address[1]
        self.hosts: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name=name)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.hosts.append(self.headers["Host"])
        body = self.server.name.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


class Gateway:
    def __init__(self, process: DataPlane, control: str, prometheus: str) -> None:
        self.process = process
        self._control = control
        self._prometheus = prometheus
        self._client = httpx.Client(trust_env=False, timeout=10)

    def put(self, upstream: Mapping[str, Any], id: str) -> None:
        """A route /ID/* to an upstream of that id."""
        route = {"id": id, "uri": f"/{id}/*", "upstream_id": id}
        documents: list[tuple[Kind, Mapping[str, Any]]] = [("upstreams", {"id": id, **upstream}), ("routes", route)]

        async def write() -> None:
            async with open_store(self.process.store) as store:
                for kind, document in documents:
                    await store.put(resource_key(kind, id), json.dumps(document).encode())

        asyncio.run(write())

    def get(self, id: str) -> tuple[int, str]:
        """On a connection of its own, so of any worker."""
        response = httpx.get(f"http://{HOST}:{self.process.port}/{id}/x", trust_env=False, timeout=10)
        return response.status_code, response.text

    def all_from(self, id: str, *names: str) -> bool:
        """Whether the next requests get 200 from these servers and no other."""
        answers = {self.get(id) for _ in range(8)}
        return answers == {(200, name) for name in names}

    def left_out(self, id: str) -> list[dict[str, object]]:
        """What the log says of nodes that were left out; servers of other tests have ended meanwhile."""
        lines = self.process.events("upstream node is unhealthy")
        return [line for line in lines if line["upstream"] == f"upstream/{id}"]

    def control(self, path: str) -> Any:  # noqa: ANN401 - JSON
        return self._client.get(f"http://{self._control}{path}").json()

    def metrics(self) -> str:
        return self._client.get(f"http://{self._prometheus}/apisix/prometheus/metrics").text

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with dns_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, dns: DnsServer, certificates: Certificates) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = folder / "settings.toml"
    settings.write_text(f'dns_resolver = "{HOST}:{dns.port}"\nssl_trusted_certificate = "{certificates.ca}"\n')
    options = ["--workers", "2", "--config", str(settings), "--control", f"{HOST}:0", "--prometheus", f"{HOST}:0"]
    with data_plane(folder, *options) as process:
        process.ready(2)
        said = process.events("data plane is starting")[0]
        gateway = Gateway(process, str(said["control"]), str(said["prometheus"]))
        yield gateway
        gateway.close()
    assert "Traceback" not in process.log


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(servers: ExitStack, name: str, **options: Any) -> Server:  # noqa: ANN401 - as Server has them
    server = Server(name, **options)
    servers.callback(server.stop)
    return server


def test_checks(gateway: Gateway, servers: ExitStack) -> None:
    good, bad = start(servers, "good"), start(servers, "bad")
    active = {"http_path": "/health", "unhealthy": {"http_failures": 1}, "healthy": {"successes": 1}}
    nodes = {f"{HOST}:{server.port}": 1 for server in (good, bad)}
    gateway.put({"nodes": nodes, "checks": {"active": active}, "pass_host": "node"}, "checked")
    wait_until(lambda: gateway.all_from("checked", "good", "bad"), "both serve")
    bad.status = 503
    wait_until(lambda: gateway.all_from("checked", "good"), "all workers leave the bad one out")

    checker = gateway.control("/v1/healthcheck/upstreams/checked")
    assert (checker["name"], checker["type"]) == ("/apisix/upstreams/checked", "http")
    states = {node["port"]: node["status"] for node in checker["nodes"]}
    assert states == {good.port: "healthy", bad.port: "unhealthy"}
    assert f'apisix_upstream_status{{name="/apisix/upstreams/checked",ip="{HOST}",port="{bad.port}"}} 0' in gateway.metrics()
    assert len(gateway.left_out("checked")) == 1
    assert f"{HOST}:{good.port}" in good.hosts

    # No node left: all of them get requests.
    good.status = 503
    wait_until(lambda: {gateway.get("checked")[1] for _ in range(8)} == {"good", "bad"}, "all of them serve again")
    bad.status = 200
    wait_until(lambda: gateway.all_from("checked", "bad"), "the one that is well again serves alone")


def test_what_requests_show(gateway: Gateway, servers: ExitStack) -> None:
    good, bad = start(servers, "good"), start(servers, "bad")
    bad.status = 500
    # Probes would never find it: they look once an hour.
    active = {"healthy": {"interval": 3600}, "unhealthy": {"interval": 3600}}
    passive = {"unhealthy": {"http_failures": 3}}
    nodes = {f"{HOST}:{server.port}": 1 for server in (good, bad)}
    gateway.put({"nodes": nodes, "checks": {"active": active, "passive": passive}}, "seen")
    wait_until(lambda: gateway.get("seen")[0] != 404, "the route is there")
    wait_until(lambda: gateway.all_from("seen", "good"), "three failures of all workers together were enough")
    (event,) = gateway.left_out("seen")
    assert (event["check"], event["counter"], event["count"]) == ("passive", "http_failure", 3)


def test_names(gateway: Gateway, servers: ExitStack, dns: DnsServer) -> None:
    one = start(servers, "one")
    start(servers, "two", host=OTHER_HOST, port=one.port)
    dns.set("up.test", "A", HOST, ttl=0)
    gateway.put({"nodes": {f"up.test:{one.port}": 1}, "pass_host": "node"}, "named")
    wait_until(lambda: gateway.all_from("named", "one"), "the name is resolved")
    assert f"up.test:{one.port}" in one.hosts
    dns.set("up.test", "A", HOST, OTHER_HOST, ttl=0)
    wait_until(lambda: gateway.all_from("named", "one", "two"), "both addresses serve")
    dns.set("up.test", "A", OTHER_HOST, ttl=0)
    wait_until(lambda: gateway.all_from("named", "two"), "the old address gets nothing")
    asked = dns.count("up.test", "A")
    dns.fails = True
    wait_until(lambda: dns.count("up.test", "A") > asked + 2, "both workers have asked in vain")
    assert gateway.all_from("named", "two")
    dns.fails = False


def test_a_service(gateway: Gateway, servers: ExitStack, dns: DnsServer) -> None:
    one, two = start(servers, "one"), start(servers, "two", host=OTHER_HOST)
    dns.set("_http._tcp.svc.test", "SRV", f"1 1 {one.port} a.svc.test.", f"1 1 {two.port} b.svc.test.")
    dns.set("a.svc.test", "A", HOST)
    dns.set("b.svc.test", "A", OTHER_HOST)
    gateway.put({"service_name": "_http._tcp.svc.test", "discovery_type": "dns"}, "service")
    wait_until(lambda: gateway.all_from("service", "one", "two"), "both servers of the service serve")


def test_tls(gateway: Gateway, servers: ExitStack, dns: DnsServer, certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = start(servers, "secured", context=context)
    dns.set("wrong.test", "A", HOST)
    shown = {"client_cert": certificates.cert.read_text(), "client_key": certificates.key.read_text()}

    def put(id: str, host: str, **tls: object) -> None:
        gateway.put({"scheme": "https", "nodes": {f"{host}:{server.port}": 1}, "tls": tls}, id)

    put("mtls", HOST, **shown)
    put("no-certificate", HOST)
    put("wrong-name", "wrong.test", **shown)
    put("unverified", "wrong.test", verify=False, **shown)
    wait_until(lambda: gateway.all_from("mtls", "secured"), "with our certificate the server answers")
    wait_until(lambda: gateway.all_from("unverified", "secured"), "nobody looks at the name")
    assert gateway.get("wrong-name")[0] == 502
    assert gateway.get("no-certificate")[0] == 502
    reasons = {(line["server_name"], line["reason"]) for line in gateway.process.events("TLS with upstream failed")}
    assert any(name == "wrong.test" and "Hostname mismatch" in str(reason) for name, reason in reasons)
