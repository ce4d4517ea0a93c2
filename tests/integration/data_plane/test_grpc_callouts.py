"""gRPC calls of plugins, against grpcio's server and against servers that are none."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from data_plane.callout.grpc_call import GrpcCall
from data_plane.callout.http_call import HttpCall
from data_plane.callout.tls import client_context
from data_plane.config.snapshot import Limits, Upstream
from shared.proxy_wasm.callouts import PendingCall
from tests.support.calling import Calling, calling_gateway
from tests.support.certificates import make_certificates
from tests.support.gateway import TIMEOUTS, LiveGateway, Turns, UpstreamSide, answering, ok, route_to, upstream
from tests.support.grpc_server import EchoServer, echo_server
from tests.support.raw_http import client

PAUSE = "request_headers return 1"
RESUME = ("effective 2", "reply 200 x done")


@pytest.fixture
def calling(gateway: LiveGateway) -> Iterator[Calling]:
    with calling_gateway(gateway) as calling:
        yield calling


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with echo_server() as server:
        yield server


def resumed_by(callback: str) -> list[str]:
    return [f"{callback} {line}" for line in RESUME]


def ask(calling: Calling, *script: str, limits: Limits | None = None, ports: tuple[int, ...] = (1,)) -> list[str]:
    """One request through a plugin with this script, which ends it; what the plugin said from the call on."""
    binding = calling.bind(*script, PAUSE, limits=limits)
    named = {"auth": Upstream("auth", Turns(*ports), timeouts=TIMEOUTS)}
    calling.gateway.route(route_to(1, bindings=(binding,)), upstreams=named)
    before = len(calling.said.lines)
    with client(calling.gateway.port) as raw:
        assert raw.get().body == b"done"
    said = calling.said.lines[before:]
    return said[: said.index("effective: OK")]


def test_a_unary_call(calling: Calling, server: EchoServer) -> None:
    said = ask(
        calling,
        f"request_headers grpc_call {server.address} test.Echo Upper 5000 hello x-a=1 X-B=2 grpc-no=1 te=no",
        *("grpc_receive buffer 5 0 100", "grpc_receive status"),
        *resumed_by("grpc_receive"),
    )
    assert said[-4:] == ["grpc_call: OK 5", "grpc_receive 1 5 5", "buffer: OK HELLO", "status: OK 0"]
    assert server.seen == ["Upper x-a=1 x-b=2 limited"]


def test_calls_share_a_connection_and_name_an_upstream(calling: Calling, server: EchoServer) -> None:
    said = ask(
        calling,
        *("request_headers grpc_call auth test.Echo Upper 0 a" for _ in range(20)),
        *resumed_by("grpc_receive#20"),
        ports=(server.port,),
    )
    assert said.count("grpc_receive 1 5 1") == 1
    assert len([line for line in said if line.startswith("grpc_receive ")]) == 20
    pool = calling.service.h2_pool(tls=False)
    assert [len(conns) for conns in pool._open.values()] == [1]


@pytest.mark.parametrize(
    ("method", "message", "status"),
    [
        ("Deny", "x", "7 no entry: 50%25 %c3%bcber"),
        ("Nothing", "x", "12 Method not found!"),
        ("Huge", "70000", "8 a message of"),
    ],
)
def test_a_unary_call_that_fails(calling: Calling, server: EchoServer, method: str, message: str, status: str) -> None:
    said = ask(
        calling,
        f"request_headers grpc_call {server.address} test.Echo {method} 5000 {message}",
        "grpc_close status",
        *resumed_by("grpc_close"),
        limits=Limits(body_buffer_bytes=65536),
    )
    assert said[-2] == f"grpc_close 1 5 {status.partition(' ')[0]}"
    assert said[-1].startswith(f"status: OK {status}")


def test_a_large_message_both_ways(calling: Calling, server: EchoServer) -> None:
    message = "x" * 3000
    said = ask(
        calling,
        *(f"request_headers grpc_call {server.address} test.Echo Upper 5000 {message}" for _ in range(40)),
        f"request_headers grpc_call {server.address} test.Echo Huge 5000 900000",
        *resumed_by("grpc_receive#41"),
    )
    assert said.count("grpc_receive 1 5 3000") == 1
    assert [line for line in said if line.endswith(" 900000")] == ["grpc_receive 1 165 900000"]


def test_a_call_that_takes_too_long_is_cancelled(calling: Calling, server: EchoServer) -> None:
    said = ask(
        calling,
        f"request_headers grpc_call {server.address} test.Echo Wait 200 x",
        "grpc_close status",
        *resumed_by("grpc_close"),
    )
    assert said[-2:] == ["grpc_close 1 5 4", "status: OK 4 timed out"]


def test_a_stream_of_three_messages(calling: Calling, server: EchoServer) -> None:
    said = ask(
        calling,
        f"request_headers grpc_stream {server.address} test.Echo Chat x-a=1",
        *("request_headers grpc_send @ one 0", "grpc_initial_metadata get 4 x-initial"),
        *("grpc_receive buffer 5 0 9", "grpc_receive#1 grpc_send 6 two 0", "grpc_receive#2 grpc_send 6 three 1"),
        *("grpc_trailing_metadata get 5 x-final", "grpc_trailing_metadata get 5 grpc-status", "grpc_close status"),
        *resumed_by("grpc_close"),
    )
    assert said[said.index("grpc_stream: OK 6") :] == [
        *("grpc_stream: OK 6", "grpc_send: OK"),
        *(said[said.index("get: OK 1") - 1], "get: OK 1"),
        *("grpc_receive 1 6 3", "buffer: OK ONE", "grpc_send: OK"),
        *("grpc_receive 1 6 3", "buffer: OK TWO", "grpc_send: OK"),
        *("grpc_receive 1 6 5", "buffer: OK THREE"),
        *(said[said.index("get: OK 2") - 1], "get: OK 2", "get: OK 0"),
        *("grpc_close 1 6 0", "status: OK 0"),
    ]
    assert said[said.index("get: OK 1") - 1].startswith("grpc_initial_metadata 1 6 ")
    assert server.seen[0] == "Chat x-a=1"


def test_a_stream_that_only_the_server_fills(calling: Calling, server: EchoServer) -> None:
    """The server ends it although the plugin has not: that is its end for both."""
    said = ask(
        calling,
        *(f"request_headers grpc_stream {server.address} test.Echo Count", "request_headers grpc_send @ 300 0"),
        *("grpc_close grpc_send 6 late 0",),
        *resumed_by("grpc_close"),
    )
    assert len([line for line in said if line.startswith("grpc_receive 1 6 ")]) == 300
    assert said[-2:] == ["grpc_close 1 6 0", "grpc_send: NOT_FOUND"]
    assert calling.pending() == 0


def test_a_stream_that_the_plugin_closes(calling: Calling, server: EchoServer) -> None:
    said = ask(
        calling,
        *(f"request_headers grpc_stream {server.address} test.Echo Chat", "request_headers grpc_close @"),
        *("request_headers grpc_send 6 late 0", *resumed_by("grpc_close")),
    )
    assert said[-1] == "grpc_close 1 6 0"
    assert "grpc_send: BAD_ARGUMENT" in said


def test_a_stream_that_ends_in_an_error(calling: Calling, server: EchoServer) -> None:
    said = ask(
        calling,
        f"request_headers grpc_stream {server.address} test.Echo Broken",
        *("grpc_close status", *resumed_by("grpc_close")),
    )
    assert "grpc_receive 1 6 3" in said
    assert said[-2:] == ["grpc_close 1 6 15", "status: OK 15 gone"]


def test_a_cancelled_stream_is_cancelled_there_and_silent_here(calling: Calling, server: EchoServer) -> None:
    binding = calling.bind(
        f"request_headers grpc_stream {server.address} test.Echo Chat",
        *("grpc_initial_metadata grpc_cancel 6", "grpc_initial_metadata grpc_cancel 6", PAUSE),
        *resumed_by("grpc_initial_metadata"),
    )
    calling.gateway.route(route_to(1, bindings=(binding,)))
    with client(calling.gateway.port) as raw:
        assert raw.get().body == b"done"
    assert calling.said.results("grpc_cancel") == ["OK", "NOT_FOUND"]
    calling.gateway.until(lambda _: "Chat ended" in server.seen)
    assert not [line for line in calling.said.lines if line.startswith("grpc_close")]


def test_the_client_leaves_while_its_request_waits(calling: Calling, server: EchoServer) -> None:
    binding = calling.bind(f"request_headers grpc_call {server.address} test.Echo Wait 0 x", PAUSE, "grpc_close status")
    calling.gateway.route(route_to(1, bindings=(binding,)))
    with client(calling.gateway.port) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert server.streams_begun.acquire(timeout=5)
    assert calling.said.until("status:")[-2:] == ["grpc_close 1 5 1", "status: OK 1 the stream has ended"]
    calling.gateway.until(lambda _: "cancelled" in server.seen)


def test_a_server_that_shuts_down_lets_what_it_began_end(calling: Calling, server: EchoServer) -> None:
    """GOAWAY: the call that runs gets its answer, the next one a new connection, which is refused."""
    binding = calling.bind(
        f"request_headers grpc_call {server.address} test.Echo Wait 5000 x",
        PAUSE,
        *resumed_by("grpc_receive"),
        *resumed_by("grpc_close"),
    )
    calling.gateway.route(route_to(1, bindings=(binding,)))
    with client(calling.gateway.port) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert server.streams_begun.acquire(timeout=5)
        stopped = server.stop(grace=10)
        pool = calling.service.h2_pool(tls=False)
        calling.gateway.until(lambda _: not pool._open)
        server.go.set()
        assert raw.response().body == b"done"
        assert calling.said.lines.count("grpc_receive 1 5 1") == 1
        assert stopped.wait(5)
        assert raw.get().body == b"done"
    assert calling.said.until("grpc_close 1 9")[-1] == "grpc_close 1 9 14"


def test_calls_leave_nothing_to_the_collector(calling: Calling, server: EchoServer) -> None:
    with upstream(answering(ok())) as peer:
        asks = (
            f"http_call 127.0.0.1:{peer.port} 5000 % % :method=GET :path=/ :authority=h",
            f"grpc_call {server.address} test.Echo Upper 5000 a",
        )
        before = {id(item) for item in calls_alive()}
        gc.disable()
        try:
            for ask_, callback in zip(asks, ("http_call_response", "grpc_receive"), strict=True):
                ask(calling, f"request_headers {ask_}", *resumed_by(callback))
            calling.gateway.until(lambda live: not live.clients)
            left = [item for item in calls_alive() if id(item) not in before]
        finally:
            gc.enable()
    assert left == []


def calls_alive() -> list[object]:
    """In the whole process: other tests may have left some."""
    return [item for item in gc.get_objects() if isinstance(item, HttpCall | GrpcCall | PendingCall)]


# --- targets


def proto(number: int, value: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in bytes((number << 3 | 2, len(value))) + value)


def raw(text: str) -> bytes:
    return bytes.fromhex(text.replace("%", ""))


def test_targets_as_envoy_names_them(calling: Calling, server: EchoServer) -> None:
    envoy = proto(1, raw(proto(1, b"auth")))
    google = proto(2, raw(proto(1, f"dns:///{server.address}".encode())))
    metadata = proto(5, raw(proto(1, b"x-k") + proto(2, b"v")))
    timeout = proto(3, bytes((8, 3)))
    for target in (envoy + metadata, google + metadata + timeout):
        ask(
            calling,
            f"request_headers grpc_call {target} test.Echo Upper 0 a x-own=1",
            *resumed_by("grpc_receive"),
            ports=(server.port,),
        )
    assert server.seen == ["Upper x-own=1 x-k=v", "Upper x-own=1 x-k=v limited"]


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("nobody s m 0 x", "PARSE_FAILURE"),
        ("% s m 0 x", "PARSE_FAILURE"),
        ("%0a%02%0a s m 0 x", "PARSE_FAILURE"),
        (f"{proto(1, raw(proto(1, b'nobody')))} s m 0 x", "PARSE_FAILURE"),
        ("auth % m 0 x", "INTERNAL_FAILURE"),
        ("auth s a%0d%0ab 0 x", "INTERNAL_FAILURE"),
        ("auth s m 0 x a%0ab=c", "INTERNAL_FAILURE"),
        ("auth s m 0 x a=c%0d", "INTERNAL_FAILURE"),
        ("auth s m 4294967295 x", "BAD_ARGUMENT"),
    ],
)
def test_what_is_no_call(calling: Calling, call: str, status: str) -> None:
    said = ask(calling, f"request_headers grpc_call {call}", *resumed_by("request_headers"))
    assert said[-1] == f"grpc_call: {status}"


def test_a_node_that_refuses_is_passed_over(calling: Calling, server: EchoServer) -> None:
    said = ask(
        calling, "request_headers grpc_call auth test.Echo Upper 0 a", *resumed_by("grpc_receive"), ports=(1, server.port)
    )
    assert said[-1] == "grpc_receive 1 5 1"
    said = ask(calling, "request_headers grpc_call auth test.Echo Upper 0 a", "grpc_close status", *resumed_by("grpc_close"))
    assert said[-2:] == ["grpc_close 1 5 14", "status: OK 14 cannot connect"]


# --- servers that are none


def closes(side: UpstreamSide) -> None:
    side.until(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def never(side: UpstreamSide) -> None:
    side.wait_for_close()


FAULTS: dict[str, tuple[Callable[[UpstreamSide], None], str]] = {
    "closes": (closes, "14 reset"),
    "speaks HTTP/1": (answering(ok()), "14 not a valid response"),
    "garbage": (answering(b"\xff" * 100), "14 not a valid response"),
    "never answers": (never, "4 timed out"),
}


@pytest.mark.parametrize("kind", ["call", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_does_not_speak_grpc(calling: Calling, fault: str, kind: str) -> None:
    script, status = FAULTS[fault]
    if kind == "stream" and fault == "never answers":
        script, status = closes, "14 reset"
    timeout = 200 if fault == "never answers" else 5000
    with upstream(script) as peer:
        call = (
            f"grpc_call 127.0.0.1:{peer.port} s m {timeout} x" if kind == "call" else f"grpc_stream 127.0.0.1:{peer.port} s m"
        )
        said = ask(calling, f"request_headers {call}", "grpc_close status", *resumed_by("grpc_close"))
        assert said[-1] == f"status: OK {status}"
    assert calling.pending() == 0


def test_over_tls(gateway: LiveGateway, tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "tls")
    credentials = grpc.ssl_server_credentials([(files.key.read_bytes(), files.cert.read_bytes())])

    def trusting(*protocols: str) -> ssl.SSLContext:
        context = client_context(*protocols)
        context.load_verify_locations(str(files.ca))
        return context

    with echo_server(credentials) as server, calling_gateway(gateway, trusting) as calling:
        said = ask(
            calling,
            *(f"request_headers grpc_call grpcs://{server.address} test.Echo Upper 5000 a", *resumed_by("grpc_receive")),
        )
        assert said[-1] == "grpc_receive 1 5 1"
    with echo_server(credentials) as server, calling_gateway(gateway) as calling:
        said = ask(
            calling,
            *(f"request_headers grpc_call grpcs://{server.address} test.Echo Upper 5000 a", *resumed_by("grpc_close")),
        )
        assert said[-1] == "grpc_close 1 5 14"
