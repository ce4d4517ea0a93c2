"""Trailers over real sockets: read from a client and an upstream, seen by plugins, written to the other side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest

from data_plane.config.snapshot import PluginBinding, WasmPlugin
from data_plane.plugins.runtime import WasmRuntime
from shared.proxy_wasm.engine import Engine
from tests.support.gateway import LiveGateway, UpstreamSide, route_to, upstream
from tests.support.guest import assemble as text_guest
from tests.support.guest import console
from tests.support.guests import assemble
from tests.support.raw_http import RawClient, client

HEAD = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Two: a, b\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Binder = Callable[..., PluginBinding]


@pytest.fixture
def bind(gateway: LiveGateway) -> Iterator[Binder]:
    modules: dict[str, bytes] = {}
    loop = gateway.gateway.loop

    async def fetch(digest: str) -> bytes | None:
        return modules.get(digest)

    runtime = WasmRuntime(Engine(), fetch, loop)
    gateway.ask(lambda: setattr(gateway.gateway, "runtime", runtime))

    def binding(*script: str, defines: tuple[str, ...] = (), module: bytes | None = None) -> PluginBinding:
        data = console(*defines) if module is None else module
        digest = sha256(data).hexdigest()
        modules[digest] = data
        plugin = WasmPlugin("console", 0, digest)
        asyncio.run_coroutine_threadsafe(runtime.prepare(plugin), loop).result(30)
        return PluginBinding(plugin, "\n".join(script).encode(), "route/1", 0)

    yield binding
    gateway.ask(runtime.close)


class Recorder:
    """An upstream that notes the whole of each request, and answers with the bytes that it was given."""

    def __init__(self, *answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []

    def __call__(self, side: UpstreamSide) -> None:
        while head := side.head():
            body = b""
            if b"chunked" in head.lower():
                while not (body.endswith(b"\r\n\r\n") and b"0\r\n" in body):
                    body += side.until(b"\r\n")
            elif b"content-length" in head.lower():
                body = side.body(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            self.requests.append(body)
            for piece in self.answer:
                side.send(piece)


def exchange(gateway: LiveGateway, binding: PluginBinding, recorder: Recorder, *pieces: bytes, ends: bytes) -> bytes:
    """What the client gets, up to what ends it."""
    with upstream(recorder) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)))
        for piece in pieces:
            raw.send(piece)
        return received(raw, ends)


def received(raw: RawClient, ends: bytes) -> bytes:
    data = b""
    while not data.endswith(ends):
        piece = raw.socket.recv(65536)
        assert piece, data
        data += piece
    return data


@pytest.mark.parametrize("cut", [0, len(HEAD) + 8, len(HEAD) + 20])
def test_a_request_s_trailers_reach_the_upstream(gateway: LiveGateway, bind: Binder, cut: int) -> None:
    recorder, whole = Recorder(PLAIN), HEAD + CHUNKS
    binding = bind("request_trailers replace 1 x-sum 2", "request_trailers add 1 x-new v")
    exchange(gateway, binding, recorder, *(piece for piece in (whole[:cut], whole[cut:]) if piece), ends=b"ok")
    assert recorder.requests == [b"5\r\nhello\r\n0\r\nx-sum: 2\r\nx-two: a, b\r\nx-new: v\r\n\r\n"]


def test_a_request_s_trailers_go_with_a_held_body(gateway: LiveGateway, bind: Binder) -> None:
    recorder = Recorder(PLAIN)
    binding = bind("request_body return 1", "request_trailers set_buffer 0 0 5 bye")
    exchange(gateway, binding, recorder, HEAD, CHUNKS, ends=b"ok")
    assert recorder.requests == [b"3\r\nbye\r\n0\r\nX-Sum: 1\r\nX-Two: a, b\r\n\r\n"]


def test_trailers_that_a_plugin_makes_turn_a_length_into_chunks(gateway: LiveGateway, bind: Binder) -> None:
    recorder = Recorder(PLAIN)
    post = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello"
    exchange(gateway, bind("request_body add 1 sum 5"), recorder, post, ends=b"ok")
    assert recorder.requests == [b"5\r\nhello\r\n0\r\nsum: 5\r\n\r\n"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_response_s_trailers_reach_the_client(gateway: LiveGateway, bind: Binder, at_once: bool) -> None:
    pieces = (ANSWER + CHUNKS,) if at_once else (ANSWER, CHUNKS[:8], CHUNKS[8:])
    binding = bind("response_trailers remove 3 x-two", "response_trailers add 3 x-new v")
    got = exchange(gateway, binding, Recorder(*pieces), b"GET / HTTP/1.1\r\nHost: t\r\n\r\n", ends=b"x-new: v\r\n\r\n")
    assert got.endswith(b"5\r\nhello\r\n0\r\nx-sum: 1\r\nx-new: v\r\n\r\n")
    assert b"transfer-encoding: chunked" in got.lower()


def test_a_response_with_a_length_gets_trailers(gateway: LiveGateway, bind: Binder) -> None:
    got = exchange(
        gateway,
        bind("response_body add 3 sum 2"),
        Recorder(PLAIN),
        b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
        ends=b"sum: 2\r\n\r\n",
    )
    assert got.endswith(b"\r\n\r\n2\r\nok\r\n0\r\nsum: 2\r\n\r\n")


def test_a_local_response_has_none_of_the_upstream_s(gateway: LiveGateway, bind: Binder) -> None:
    binding = bind("response_headers reply 418 % tea %")
    got = exchange(gateway, binding, Recorder(ANSWER + CHUNKS), b"GET / HTTP/1.1\r\nHost: t\r\n\r\n", ends=b"tea")
    assert b"\r\nContent-Length: 3\r\n" in got


def test_a_connection_lives_on_behind_trailers(gateway: LiveGateway, bind: Binder) -> None:
    recorder = Recorder(ANSWER + CHUNKS)
    with upstream(recorder) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(bind(),)))
        for _ in range(3):
            raw.send(HEAD + CHUNKS)
            assert received(raw, b"X-Two: a, b\r\n\r\n").count(b"HTTP/1.1 200 OK") == 1
    assert recorder.requests == [b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Two: a, b\r\n\r\n"] * 3


def test_without_a_plugin_that_takes_them_a_response_s_trailers_are_dropped(gateway: LiveGateway, bind: Binder) -> None:
    binding = bind(defines=("NO_BODIES",))
    got = exchange(gateway, binding, Recorder(ANSWER + CHUNKS), b"GET / HTTP/1.1\r\nHost: t\r\n\r\n", ends=b"0\r\n\r\n")
    assert got.endswith(b"5\r\nhello\r\n0\r\n\r\n")


def test_a_plugin_without_a_chain_has_no_business_with_them(gateway: LiveGateway, bind: Binder) -> None:
    """The first request starts the plugin, in a chain; the others have none."""
    with upstream(Recorder(ANSWER + CHUNKS)) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(bind(module=assemble()),)))
        for _ in range(3):
            raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            assert received(raw, b"0\r\n\r\n").endswith(b"5\r\nhello\r\n0\r\n\r\n")


BODY_ONLY = """
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
"""
ENDS = """
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (if (local.get 2) (then (drop (call $reply (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const -1)))))
    (i32.const 1))
"""


def test_a_plugin_that_knows_no_trailers_sees_the_end_of_the_body(gateway: LiveGateway, bind: Binder) -> None:
    binding = bind(module=text_guest(ENDS, imports=BODY_ONLY))
    recorder = Recorder(PLAIN)
    got = exchange(gateway, binding, recorder, HEAD, CHUNKS, ends=b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 418 ")
    assert recorder.requests == []
