"""gRPC end to end: grpcio's client, the gateway, grpcio's server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import httpx
import pytest

from data_plane.config.snapshot import Binding, Route, Upstream
from data_plane.h2.downstream import H2ClientConnection
from data_plane.upstream_tls.client_tls import ClientTls
from data_plane.upstream_tls.contexts import ClientContexts
from shared.plugin import Plugin, Reply, Request, Response, Spec
from shared.plugin.plugin import Phase
from shared.plugin.program import Bound, compile_program
from tests.support.calling import calling_gateway
from tests.support.certificates import make_certificates
from tests.support.gateway import HOST, TIMEOUTS, LiveGateway, Turns, answering, live_gateway, ok, route_to, upstream
from tests.support.grpc_server import EchoServer, echo_server

MEBIBYTE = 1 << 20


class Nothing(Spec):
    pass


@pytest.fixture(scope="module")
def gateway() -> Iterator[LiveGateway]:
    with live_gateway("uvloop", H2ClientConnection) as live:
        yield live


@pytest.fixture
def server(gateway: LiveGateway) -> Iterator[EchoServer]:
    with echo_server() as server:
        gateway.route(route_to(server.port, scheme="grpc"))
        yield server


@pytest.fixture
def channel(gateway: LiveGateway) -> Iterator[grpc.Channel]:
    with connected(gateway) as channel:
        yield channel


def connected(gateway: LiveGateway) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(f"{HOST}:{gateway.port}", options=options)


def unary(channel: grpc.Channel, method: str) -> Any:  # noqa: ANN401 - grpcio has no types
    return channel.unary_unary(f"/test.Echo/{method}")


def stream(channel: grpc.Channel, method: str) -> Any:  # noqa: ANN401
    return channel.stream_stream(f"/test.Echo/{method}")


def failure(call: Any) -> tuple[grpc.StatusCode, str]:  # noqa: ANN401
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_unary_calls(server: EchoServer, channel: grpc.Channel) -> None:
    assert unary(channel, "Upper")(b"hello", metadata=(("x-a", "1"),)) == b"HELLO"
    assert "x-a=1" in server.seen[0]
    assert "x-forwarded-for=127.0.0.1" in server.seen[0]
    assert unary(channel, "Upper")(b"") == b""


def test_metadata_at_both_ends(server: EchoServer, channel: grpc.Channel) -> None:
    answer, call = unary(channel, "Trailing").with_call(b"x")
    assert (answer, call.initial_metadata(), call.trailing_metadata()) == (b"ok", (("x-initial", "1"),), (("x-final", "2"),))


def test_a_servers_own_failures(server: EchoServer, channel: grpc.Channel) -> None:
    assert failure(lambda: unary(channel, "Deny")(b"x")) == (grpc.StatusCode.PERMISSION_DENIED, "no entry: 50% über")
    assert failure(lambda: unary(channel, "Nobody")(b"x"))[0] == grpc.StatusCode.UNIMPLEMENTED
    assert failure(lambda: list(stream(channel, "Broken")(iter([b"x"])))) == (grpc.StatusCode.DATA_LOSS, "gone")


def test_messages_larger_than_windows(server: EchoServer, channel: grpc.Channel) -> None:
    assert unary(channel, "Upper")(b"a" * 3 * MEBIBYTE) == b"A" * 3 * MEBIBYTE


def test_streams_both_ways_one_message_after_the_other(server: EchoServer, channel: grpc.Channel) -> None:
    """Each message is sent when the answer to the one before it is here: nothing is held back anywhere."""
    turn = threading.Semaphore(1)

    def messages() -> Iterator[bytes]:
        for number in range(20):
            assert turn.acquire(timeout=10)
            yield b"m%d" % number

    said = []
    for answer in stream(channel, "Chat")(messages()):
        said.append(answer)
        turn.release()
    assert said == [b"M%d" % number for number in range(20)]


def test_a_stream_of_answers_to_one_message(server: EchoServer, channel: grpc.Channel) -> None:
    assert list(stream(channel, "Count")(iter([b"100"]))) == [b"%d" % number for number in range(100, 0, -1)]


def test_many_calls_at_once_over_one_connection(server: EchoServer, channel: grpc.Channel) -> None:
    calls = [unary(channel, "Upper").future(b"x%d" % number) for number in range(300)]
    assert [call.result(10) for call in calls] == [b"X%d" % number for number in range(300)]


def test_a_deadline_reaches_the_server_and_ends_its_work(server: EchoServer, channel: grpc.Channel) -> None:
    assert failure(lambda: unary(channel, "Wait")(b"x", timeout=0.3))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_for("cancelled")
    assert "limited" in server.seen[0]


def test_a_client_that_cancels_ends_the_servers_work(server: EchoServer, channel: grpc.Channel) -> None:
    call = unary(channel, "Wait").future(b"x")
    assert server.streams_begun.acquire(timeout=10)
    call.cancel()
    server.wait_for("cancelled")


def test_a_server_that_stops_is_left_without_a_failed_call(gateway: LiveGateway, channel: grpc.Channel) -> None:
    """It says GOAWAY: what it has begun ends there, what comes later goes to the other one."""
    with echo_server() as old, echo_server() as new:
        gateway.route(route_to(old.port, scheme="grpc"))
        begun: Future[bytes] = unary(channel, "Wait").future(b"begun")
        assert old.streams_begun.acquire(timeout=10)
        stopped = old.stop(10)
        gateway.route(route_to(new.port, scheme="grpc"))
        assert unary(channel, "Upper")(b"later") == b"LATER"
        old.go.set()
        assert begun.result(10) == b"begun"
        assert stopped.wait(10)


@pytest.mark.parametrize(
    ("problem", "status", "message"),
    [
        ("upstream_not_found", grpc.StatusCode.UNAVAILABLE, "upstream not found"),
        ("internal", grpc.StatusCode.UNKNOWN, "internal error"),
    ],
)
def test_the_gateways_own_answers(
    gateway: LiveGateway, channel: grpc.Channel, problem: str, status: grpc.StatusCode, message: str
) -> None:
    gateway.route(route_to(problem=problem))
    assert failure(lambda: unary(channel, "Upper")(b"x")) == (status, message)


def test_no_route_and_no_server(gateway: LiveGateway, channel: grpc.Channel) -> None:
    gateway.route(route_to(1, scheme="grpc"), b"/test.Echo")
    assert failure(lambda: unary(channel, "Upper")(b"x")) == (grpc.StatusCode.UNAVAILABLE, "cannot connect to upstream")
    other = channel.unary_unary("/other.Service/Method")
    assert failure(lambda: other(b"x")) == (grpc.StatusCode.UNIMPLEMENTED, "404 Route Not Found")


def test_a_server_of_http1(gateway: LiveGateway, channel: grpc.Channel) -> None:
    """It answers nonsense: the client hears of it at once."""
    with upstream(answering(ok())) as http1:
        gateway.route(route_to(http1.port, scheme="grpc"))
        assert failure(lambda: unary(channel, "Upper")(b"x"))[0] == grpc.StatusCode.UNAVAILABLE


def test_plugins_see_calls(server: EchoServer, gateway: LiveGateway, channel: grpc.Channel) -> None:
    with calling_gateway(gateway) as calling:
        binding = calling.bind(
            *("request_headers replace 0 x-plugin 1", "response_headers replace 2 x-answer 2"),
            "response_trailers replace 3 x-late 3",
        )
        gateway.route(route_to(server.port, scheme="grpc", bindings=(binding,)))
        answer, call = unary(channel, "Trailing").with_call(b"x")
        assert answer == b"ok"
        assert ("x-answer", "2") in call.initial_metadata()
        assert ("x-final", "2") in call.trailing_metadata()
        assert ("x-late", "3") in call.trailing_metadata()
        assert unary(channel, "Upper")(b"a") == b"A"
        assert any("x-plugin=1" in line for line in server.seen)


def test_a_plugin_that_answers(server: EchoServer, gateway: LiveGateway, channel: grpc.Channel) -> None:
    with calling_gateway(gateway) as calling:
        gateway.route(route_to(server.port, scheme="grpc", bindings=(calling.bind("request_headers reply 403 x no"),)))
        assert failure(lambda: unary(channel, "Upper")(b"x")) == (grpc.StatusCode.PERMISSION_DENIED, "no")


class Native(Plugin[Nothing]):
    """Refuses what has `x-refuse`, fails for what has `x-fail`, and sees the response."""

    Config = Nothing
    name = "native"
    priority = 1

    def access(self, request: Request) -> Reply | None:
        if request.header("x-fail"):
            raise RuntimeError("broken")
        return Reply(403, "no") if request.header("x-refuse") else None

    def header_filter(self, request: Request, response: Response) -> None:
        response.set_header("x-native", str(response.status))

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        return data


class Looks(Native):
    def phases(self) -> frozenset[Phase]:
        return frozenset({"access"})


@pytest.mark.parametrize("kind", [Native, Looks])
def test_native_plugins(server: EchoServer, gateway: LiveGateway, channel: grpc.Channel, kind: type[Native]) -> None:
    program = compile_program([Bound.of(kind(Nothing()))])
    gateway.route(replace(route_to(server.port, scheme="grpc"), bindings=(cast(Binding, None),), program=program))
    answer, call = unary(channel, "Trailing").with_call(b"x")
    assert answer == b"ok"
    assert (("x-native", "200") in call.initial_metadata()) is (kind is Native)
    assert ("x-final", "2") in call.trailing_metadata()
    assert list(stream(channel, "Count")(iter([b"3"]))) == [b"3", b"2", b"1"]
    refused = unary(channel, "Upper").with_call
    assert failure(lambda: refused(b"x", metadata=[("x-refuse", "1")])) == (grpc.StatusCode.PERMISSION_DENIED, "no")
    assert failure(lambda: refused(b"x", metadata=[("x-fail", "1")])) == (grpc.StatusCode.UNAVAILABLE, "plugin failed")


def test_a_native_plugin_that_looks_at_responses_sees_the_gateways_own(gateway: LiveGateway, channel: grpc.Channel) -> None:
    program = compile_program([Bound.of(Native(Nothing()))])
    gateway.route(replace(route_to(1, scheme="grpc"), bindings=(cast(Binding, None),), program=program))
    assert failure(lambda: unary(channel, "Upper")(b"x")) == (grpc.StatusCode.UNAVAILABLE, "cannot connect to upstream")


def test_over_tls_to_the_server(gateway: LiveGateway, channel: grpc.Channel, tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "good")
    pair = [(files.key.read_bytes(), files.cert.read_bytes())]
    with echo_server(grpc.ssl_server_credentials(pair)) as server:
        contexts = gateway.gateway.pool.contexts
        gateway.gateway.pool.contexts = ClientContexts(str(files.ca))

        def serve(tls: ClientTls) -> None:
            secured = Upstream("u", Turns(server.port), scheme="grpcs", timeouts=TIMEOUTS, tls=tls)
            gateway.route(Route("1", "t", secured, (), TIMEOUTS))

        serve(ClientTls())
        assert unary(channel, "Upper")(b"x") == b"X"
        serve(ClientTls(server_name="other"))
        assert failure(lambda: unary(channel, "Upper")(b"x"))[0] == grpc.StatusCode.UNAVAILABLE
        gateway.gateway.pool.contexts = contexts


def test_a_client_of_http2_that_is_not_grpc(server: EchoServer, gateway: LiveGateway) -> None:
    with httpx.Client(http1=False, http2=True, trust_env=False) as session:
        answer = session.post(f"http://{HOST}:{gateway.port}/test.Echo/Upper", content=b"\0\0\0\0\1a")
    assert (answer.status_code, answer.http_version, answer.content) == (200, "HTTP/2", b"\0\0\0\0\1A")
