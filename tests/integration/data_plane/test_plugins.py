"""Plugins over real sockets: what a client and an upstream see of them, on both event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256

import pytest

from data_plane.config.snapshot import FailurePolicy, Limits, PluginBinding, WasmPlugin
from data_plane.plugins.runtime import WasmRuntime
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.vm import PluginContext
from tests.support.gateway import LiveGateway, UpstreamSide, answering, ok, route_to, upstream
from tests.support.guest import build, console
from tests.support.raw_http import RawClient, client

Binder = Callable[..., PluginBinding]

# Both directions: the head waits for a tick, the body for its end, however large it is.
PATIENT = """
#include "allocator.h"
#include "proxy_wasm.h"
PROXY_IMPORT("proxy_set_effective_context") enum proxy_status proxy_set_effective_context(uint32_t context);
PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}
PROXY_EXPORT("proxy_on_configure") bool configure(uint32_t root, size_t size) {
    return !proxy_set_tick_period_milliseconds(50);
}
static uint32_t stream;
PROXY_EXPORT("proxy_on_tick") void tick(uint32_t root) {
    if (proxy_set_effective_context(stream)) return;
    proxy_continue_stream(PROXY_REQUEST_STREAM);
    proxy_continue_stream(PROXY_RESPONSE_STREAM);
    stream = 0;
}
PROXY_EXPORT("proxy_on_request_headers") uint32_t request(uint32_t context, uint32_t n, bool end) {
    stream = context;
    return PROXY_PAUSE;
}
PROXY_EXPORT("proxy_on_response_headers") uint32_t response(uint32_t context, uint32_t n, bool end) {
    stream = context;
    return PROXY_PAUSE;
}
PROXY_EXPORT("proxy_on_request_body") uint32_t request_body(uint32_t context, size_t n, bool end) { return !end; }
PROXY_EXPORT("proxy_on_response_body") uint32_t response_body(uint32_t context, size_t n, bool end) { return !end; }
"""


@pytest.fixture
def bind(gateway: LiveGateway) -> Iterator[Binder]:
    """Plugins on the gateway's route; a runtime of its own takes the place of the test's."""
    modules: dict[str, bytes] = {}
    loop = gateway.gateway.loop

    async def fetch(digest: str) -> bytes | None:
        return modules.get(digest)

    runtime = WasmRuntime(Engine(), fetch, loop)
    gateway.ask(lambda: setattr(gateway.gateway, "runtime", runtime))

    def binding(
        *script: str, module: bytes | None = None, policy: FailurePolicy = "fail_closed", limits: Limits | None = None
    ) -> PluginBinding:
        data = console() if module is None else module
        digest = sha256(data).hexdigest()
        modules[digest] = data
        plugin = WasmPlugin("console", 0, digest, failure_policy=policy, limits=limits or Limits())
        asyncio.run_coroutine_threadsafe(runtime.prepare(plugin), loop).result(30)
        return PluginBinding(plugin, "\n".join(script).encode(), "route/1", 0)

    yield binding
    gateway.until(lambda live: not any(root.streams for root in roots(runtime)))
    gateway.ask(runtime.close)


def roots(runtime: WasmRuntime) -> list[PluginContext]:
    return [root for slot in runtime._vms.values() if slot.vm is not None for root in slot.vm.roots.values()]


def echo(side: UpstreamSide) -> None:
    """Answers with the length that it was told, then the body."""
    while head := side.head():
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
        side.send(ok(side.body(length), b"X-Length: %d" % length))


def post(raw: RawClient, body: bytes) -> None:
    raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def test_headers_both_ways(gateway: LiveGateway, bind: Binder) -> None:
    binding = bind(
        "request_headers replace 0 x-client no", "request_headers add 0 x-plugin 1", "request_headers replace 0 :path /new",
        "response_headers replace 2 :status 418", "response_headers remove 2 server", "response_headers add 2 x-seen yes",
    )  # fmt: skip
    with upstream(answering(ok(b"body", b"Server: up"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)))
        for _ in range(3):
            answer = raw.get(b"/old", b"X-Client: yes")
            assert (answer.status, answer.body, answer.field(b"x-seen"), answer.field(b"server")) == (
                418,
                b"body",
                b"yes",
                None,
            )
    assert server.received.count(b"GET /new HTTP/1.1\r\n") == 3
    assert server.received.count(b"x-plugin: 1\r\n") == server.received.count(b"x-client: no\r\n") == 3


def test_a_local_reply_needs_no_upstream_and_keeps_the_connection(gateway: LiveGateway, bind: Binder) -> None:
    binding = bind("request_headers reply 403 denied go%20away % x=1 x=2 content-length=999 transfer-encoding=chunked")
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)))
        for _ in range(3):
            answer = raw.get()
            assert (answer.status, answer.body, answer.field(b"content-type")) == (403, b"go away", b"text/plain")
            assert answer.head.count(b"x: ") == 2
        assert not server.connections


def test_bodies_that_plugins_change_are_framed_anew(gateway: LiveGateway, bind: Binder) -> None:
    binding = bind("request_body set_buffer 0 0 3 long%20", "response_body set_buffer 1 0 0 >")
    with upstream(echo) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)))
        for body in (b"abcdef", b"x"):
            post(raw, body)
            answer = raw.response()
            assert answer.body == b">long " + body[3:]
            assert answer.field(b"x-length") == b"%d" % (len(answer.body) - 1)


@pytest.mark.parametrize("size", [0, 10, 700_000])
def test_a_plugin_that_waits_for_everything(gateway: LiveGateway, bind: Binder, size: int) -> None:
    """More than the gateway reads ahead waits behind the head; resumed, the plugin must get all the rest."""
    binding = bind(module=build(PATIENT), limits=Limits(body_buffer_bytes=1 << 20))
    body = bytes(k % 251 for k in range(size))
    with upstream(lambda side: echo_all(side, size)) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)))
        post(raw, body)
        answer = raw.response()
        assert (answer.status, answer.complete, answer.body == body) == (200, True, True)


def echo_all(side: UpstreamSide, size: int) -> None:
    """The body comes with a length or in one chunk or several; what it holds is what counts."""
    head = side.head().lower()
    if b"content-length: " in head:
        body = side.body(size)
    else:
        body = b""
        while line := side.until(b"\r\n").strip():
            part = side.body(int(line, 16) + 2)[:-2]
            body += part
            if not part:
                break
    side.send(ok(body))
    side.wait_for_close()


@pytest.mark.parametrize("command", ["trap", "loop", "recurse"])
def test_a_failing_plugin_is_a_503_and_others_are_served(gateway: LiveGateway, bind: Binder, command: str) -> None:
    bad = bind(f"request_headers {command}")
    with upstream(answering(ok(b"fine"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(bad,)))
        answer = raw.get()
        assert (answer.status, answer.body) == (503, b'{"error_msg":"a plugin of this route failed"}\n')
        gateway.route(route_to(server.port, bindings=(bind("response_headers add 2 good yes"),)))
        assert raw.get().field(b"good") == b"yes"


def test_a_plugin_that_may_fail_is_passed_by(gateway: LiveGateway, bind: Binder) -> None:
    binding = bind("request_body trap", policy="fail_open")
    with upstream(echo) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)))
        post(raw, b"body")
        assert raw.response().body == b"body"


def test_a_plugin_that_fails_in_the_response_s_body(gateway: LiveGateway, bind: Binder) -> None:
    """Before anything left it is a 503 like any other; afterwards the client sees that the body is cut."""
    first_arrived = threading.Event()

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        first_arrived.wait(10)
        side.send(b"later")
        side.wait_for_close()

    with client(gateway.port) as raw, upstream(answering(ok(b"body"))) as server:
        gateway.route(route_to(server.port, bindings=(bind("response_body trap"),)))
        assert raw.get().status == 503
    with client(gateway.port) as raw, upstream(script) as server:
        gateway.route(route_to(server.port, bindings=(bind("response_body#2 trap"),)))
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        raw.wait_for(b"first")
        first_arrived.set()
        answer = raw.response()
        assert (answer.status, answer.body, answer.complete) == (200, b"first", False)


def test_a_reset_by_a_plugin(gateway: LiveGateway, bind: Binder) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(bind("request_headers close 0"),)))
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert raw.rest() == b""
        assert not server.connections


def test_a_client_that_leaves_while_a_plugin_waits(gateway: LiveGateway, bind: Binder) -> None:
    """Its context ends at once: the fixture waits for that."""
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(bind("request_headers return 1"),)))
        post(raw, b"waits")
        gateway.until(lambda live: live.clients)
        raw.abort()


def test_the_errors_of_the_gateway_itself_go_through_plugins(gateway: LiveGateway, bind: Binder) -> None:
    with client(gateway.port) as raw:
        binding = bind("response_headers replace 2 x-seen yes", "response_headers get 2 :status")
        with upstream(answering(ok())) as server:
            closed = server.port
        gateway.route(route_to(closed, bindings=(binding,)))
        answer = raw.get()
        assert (answer.status, answer.field(b"x-seen")) == (502, b"yes")


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("pauses", [False, True])
def test_a_plugin_sees_the_heads_of_a_websocket_handshake(gateway: LiveGateway, bind: Binder, pauses: bool) -> None:
    """It may read what makes them one, and write what it likes but that. Its stream lasts as long as the session."""

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(SWITCHED + b"early")
        side.socket.sendall(side.body(4).upper())
        side.wait_for_close()

    heard = ("request_headers replace 0 upgrade h2c", "request_headers add 0 x-plugin 1", "response_headers remove 2 upgrade")
    binding = bind(module=build(PATIENT)) if pauses else bind(*heard, "response_headers add 2 x-seen yes")
    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(replace(route_to(server.port, bindings=(binding,)), enable_websocket=True))
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping")
        answer = raw.response()
        assert (answer.status, answer.field(b"upgrade"), answer.field(b"connection")) == (101, b"websocket", b"Upgrade")
        raw.wait_for(b"earlyPING")
        sent = server.received.partition(b"\r\n\r\n")[0].lower()
        assert sent.count(b"upgrade: websocket") == 1
        assert b"h2c" not in sent
        assert (b"x-plugin: 1" in sent, answer.field(b"x-seen")) == ((False, None) if pauses else (True, b"yes"))
