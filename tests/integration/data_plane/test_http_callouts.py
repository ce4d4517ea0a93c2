"""HTTP calls of plugins over real sockets: what the called server sees, what the plugin hears, what becomes of the request."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_plane.callout.tls import client_context
from data_plane.config.snapshot import KeepalivePool, Limits, Upstream
from tests.support.calling import Calling, calling_gateway
from tests.support.gateway import HOST, TIMEOUTS, LiveGateway, Turns, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import client
from tests.support.tls_server import TlsServer

ASK = "http_call auth 5000 % % :method=GET :path=/check :authority=auth.test"
PAUSE = "request_headers return 1"


@pytest.fixture
def calling(gateway: LiveGateway) -> Iterator[Calling]:
    with calling_gateway(gateway) as calling:
        yield calling


def named(*ports: int, keepalive: KeepalivePool | None = None) -> dict[str, Upstream]:
    return {"auth": Upstream("auth", Turns(*ports), timeouts=TIMEOUTS, keepalive_pool=keepalive or KeepalivePool())}


def refused_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


GRANT = (
    *("http_call_response effective 2", "http_call_response get 6 :status", "http_call_response get 6 x-user"),
    *("http_call_response buffer 4 0 100", "http_call_response add 0 x-user ann", "http_call_response continue 0"),
)


@pytest.mark.parametrize("defines", [(), ("NO_BODIES",)], ids=["chain", "heads"])
def test_a_request_waits_for_its_answer(gateway: LiveGateway, calling: Calling, defines: tuple[str, ...]) -> None:
    binding = calling.bind(f"request_headers {ASK} x-a=1 X-A=2", PAUSE, *GRANT, defines=defines)
    with upstream(answering(ok(b"yes", b"X-User: ann"))) as auth, upstream(answering(ok(b"served"))) as server:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        for _ in range(3):
            with client(gateway.port) as raw:
                assert raw.get(b"/").body == b"served"
        assert auth.received == b"GET /check HTTP/1.1\r\nHost: auth.test\r\nx-a: 1\r\nX-A: 2\r\n\r\n" * 3
        assert len(auth.connections) == 1
        assert server.received.count(b"x-user: ann\r\n") == 3
    assert calling.said.results("get") == ["OK 200", "OK ann"] * 3
    assert calling.said.results("buffer") == ["OK yes"] * 3
    assert calling.pending() == 0


def test_an_answer_can_refuse_the_request(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(
        f"request_headers {ASK}", PAUSE, "http_call_response effective 2", "http_call_response reply 403 denied no % a=b"
    )
    with upstream(answering(ok())) as auth, upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        answer = raw.get()
        assert (answer.status, answer.body, answer.field(b"a")) == (403, b"no", b"b")
        assert not server.connections


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body"])
def test_every_phase_can_wait_also_between_other_plugins(gateway: LiveGateway, calling: Calling, phase: str) -> None:
    direction = int(phase.startswith("response"))
    waiting = calling.bind(
        f"{phase}#1 {ASK}", f"{phase}#1 return 1", "http_call_response effective 2", f"http_call_response continue {direction}"
    )
    before, after = (calling.bind("request_headers add 0 x-seen 1", name=name) for name in ("before", "after"))

    def echo(side: UpstreamSide) -> None:
        while head := side.head():
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            side.send(ok(side.body(length)))

    with upstream(answering(ok(b"go"))) as auth, upstream(echo) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(before, waiting, after)), upstreams=named(auth.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello")
        answer = raw.response()
        assert (answer.status, answer.body) == (200, b"hello")
        assert auth.received.count(b"GET /check") == 1
        assert server.received.count(b"x-seen: 1") == 2


def test_calls_run_in_parallel(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(
        *(f"request_headers {ASK}" for _ in range(3)),
        PAUSE,
        "http_call_response#3 effective 2",
        "http_call_response#3 continue 0",
    )
    all_here = threading.Barrier(3)

    def together(side: UpstreamSide) -> None:
        while side.head():
            all_here.wait(5)
            side.send(ok())

    with upstream(together) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        assert raw.get().body == b"served"
        assert len(auth.connections) == 3


def test_a_call_after_a_call_after_a_call(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(
        f"request_headers {ASK}",
        PAUSE,
        *(f"http_call_response#{k} {ASK}" for k in (1, 2)),
        *("http_call_response#3 effective 2", "http_call_response#3 reply 401 x x"),
    )
    with upstream(answering(ok())) as auth, client(gateway.port) as raw:
        gateway.route(route_to(auth.port, bindings=(binding,)), upstreams=named(auth.port))
        assert raw.get().status == 401
    assert calling.said.results("http_call") == ["OK 4", "OK 8", "OK 12"]


def test_an_address_in_place_of_a_name_and_a_body_with_trailers(gateway: LiveGateway, calling: Calling) -> None:
    with upstream(answering(ok(b"%s" % (b"x" * 70_000)))) as auth, client(gateway.port) as raw:
        binding = calling.bind(
            f"request_headers http_call {HOST}:{auth.port} 5000 body t=u :method=POST :path=/a?b=c :authority=h:1 te=x",
            f"request_headers http_call {HOST}:{auth.port} 5000 body % :method=POST :path=/ :authority=h te=x host=evil",
            f"request_headers http_call {HOST}:{auth.port} 5000 % % :method=PUT :path=/ host=h",
            PAUSE,
            "http_call_response#3 effective 2",
            "http_call_response#3 reply 200 x done",
        )
        gateway.route(route_to(auth.port, bindings=(binding,)))
        assert raw.get().body == b"done"
        bodies = sorted(bytes(side.received) for side in auth.connections)
    assert bodies == [
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        b"POST /a?b=c HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nt: u\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    ]
    assert all(line.endswith(" 2 70000 0") for line in calling.said.lines if line.startswith("http_call_response"))


@pytest.mark.parametrize("cut", [0, 60, 100, 112, 120])
def test_a_response_with_trailers(gateway: LiveGateway, calling: Calling, cut: int) -> None:
    """However its bytes arrive."""
    binding = calling.bind(
        *(f"request_headers {ASK}", PAUSE, "http_call_response pairs 7", "http_call_response buffer 4 0 99"),
        *("http_call_response effective 2", "http_call_response continue 0"),
    )
    fields = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    message = fields + b"4\r\nbody\r\n0\r\nX-Sum: 1\r\nx-two:  2\r\nTE: x\r\n\r\n"

    def script(side: UpstreamSide) -> None:
        while side.head():
            side.send(message[:cut])
            # A turn of the gateway's loop in between: it has read the first part.
            gateway.until(lambda _: True)
            side.send(message[cut:])

    with upstream(script) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        for _ in range(2):
            assert raw.get().body == b"served"
        assert len(auth.connections) == 1
    assert calling.said.results("pairs") == ["OK x-sum=1|x-two=2"] * 2
    assert calling.said.results("buffer") == ["OK body"] * 2


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("nobody 0 % % :method=GET :path=/ :authority=h", "BAD_ARGUMENT"),
        ("% 0 % % :method=GET :path=/ :authority=h", "BAD_ARGUMENT"),
        ("127.0.0.1:111981 0 % % :method=GET :path=/ :authority=h", "BAD_ARGUMENT"),
        ("a::1] 0 % % :method=GET :path=/ :authority=h", "BAD_ARGUMENT"),
        ("ftp://h:1 0 % % :method=GET :path=/ :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :path=/ :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :path=/", "BAD_ARGUMENT"),
        ("auth 4294967295 % % :method=GET :path=/ :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :method=CONNECT :path=/ :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :path=a :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :path=/%0d%0aa:b :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :path=/ :authority=h%0d%0aa:b", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :path=/ :authority=h a=b%0d%0ac:d", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :path=/ :authority=h a:b=c", "BAD_ARGUMENT"),
        ("auth 0 % a=b%0d%0ac:d :method=GET :path=/ :authority=h", "BAD_ARGUMENT"),
        ("auth 0 % % :method=GET :path=/ :authority=h :scheme=gopher", "BAD_ARGUMENT"),
    ],
)
def test_what_is_no_call(gateway: LiveGateway, calling: Calling, call: str, status: str) -> None:
    binding = calling.bind(f"request_headers http_call {call}", "request_headers reply 200 x x")
    with upstream(answering(ok())) as auth, client(gateway.port) as raw:
        gateway.route(route_to(auth.port, bindings=(binding,)), upstreams=named(auth.port))
        assert raw.get().status == 200
        assert not auth.connections
    assert calling.said.results("http_call") == [status]


# --- faults


def close(side: UpstreamSide) -> None:
    side.head()


def reset(side: UpstreamSide) -> None:
    side.head()
    side.reset()


def reset_midway(side: UpstreamSide) -> None:
    side.head()
    side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    side.reset()


FAULTS: dict[str, tuple[Callable[[UpstreamSide], None], str]] = {
    "closes": (close, "reset"),
    "resets": (reset, "reset"),
    "resets midway": (reset_midway, "reset"),
    "garbage": (answering(b"SSH-2.0-OpenSSH_9\r\n"), "not a valid response"),
    "bad length": (answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "not a valid response"),
    "two lengths": (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "not a valid response"),
    "never answers": (UpstreamSide.wait_for_close, "timed out"),
    "too large": (answering(ok(b"x" * 40_000)), "the response is larger than the plugin holds"),
    "endless": (answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 40_000), "the response is larger than the plugin holds"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_that_goes_wrong_is_told(gateway: LiveGateway, calling: Calling, fault: str) -> None:
    script, reason = FAULTS[fault]
    binding = calling.bind(
        f"request_headers {ASK.replace('5000', '200') if fault == 'never answers' else ASK}",
        PAUSE,
        *("http_call_response get 6 :status", "http_call_response status"),
        *("http_call_response effective 2", "http_call_response continue 0"),
        limits=Limits(body_buffer_bytes=32_000),
    )
    with upstream(script) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        assert raw.get().body == b"served"
        assert auth.connections
        for side in auth.connections:
            assert side.ended.wait(5)
    told = calling.said.lines.index("http_call_response 1 4 0 0 0")
    assert calling.said.lines[told + 1 : told + 3] == ["get: NOT_FOUND", f"status: OK 11 {reason}"]
    assert calling.pending() == 0


def test_a_node_that_refuses_is_passed_over_and_if_all_do_the_call_fails(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(f"request_headers {ASK}", PAUSE, *GRANT[:2], "http_call_response status", GRANT[-1])
    dead = refused_port()
    with upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(dead, server.port))
        raw.get()
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(dead))
        raw.get()
    assert calling.said.results("get") == ["OK 200", "NOT_FOUND"]
    assert calling.said.results("status")[1] == "OK 11 cannot connect"


@pytest.mark.parametrize(("method", "answers"), [("GET", ["OK 200"] * 4), ("POST", ["OK 200", "NOT_FOUND"] * 2)])
def test_a_kept_connection_that_dies_with_the_next_call(
    gateway: LiveGateway, calling: Calling, method: str, answers: list[str]
) -> None:
    """A call that may be repeated is, on a new connection."""
    binding = calling.bind(f"request_headers {ASK.replace('GET', method)}", PAUSE, *GRANT[:2], GRANT[-1])

    def once(side: UpstreamSide) -> None:
        side.head()
        side.send(ok())
        side.head()

    with upstream(once) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        assert [raw.get().body for _ in range(4)] == [b"served"] * 4
    assert calling.said.results("get") == answers


# --- ends


def test_the_client_leaves_while_its_request_waits(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(f"request_headers {ASK}", PAUSE, "http_call_response status", "http_call_response effective 2")
    with upstream(UpstreamSide.wait_for_close) as auth:
        gateway.route(route_to(auth.port, bindings=(binding,)), upstreams=named(auth.port))
        with client(gateway.port) as raw:
            raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            auth.wait_for(b"GET /check")
        assert auth.connections[0].ended.wait(5)
        calling.said.until("effective: BAD_ARGUMENT")
    assert calling.said.lines[-6:] == [
        *("done 2", "log 2", "delete 2"),
        *("http_call_response 1 4 0 0 0", "status: OK 11 the stream has ended", "effective: BAD_ARGUMENT"),
    ]
    assert calling.pending() == 0


def test_a_report_from_on_log_outlives_its_request(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(
        "log http_call auth 5000 %64one % :method=POST :path=/ :authority=h", "http_call_response get 6 :status"
    )
    with upstream(answering(ok())) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        assert raw.get().body == b"served"
        assert calling.said.until("get:")[-1] == "get: OK 200"
        assert auth.received.endswith(b"\r\n\r\ndone")


def test_a_call_that_nothing_waits_for_outlives_its_request(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(f"request_headers {ASK}", "http_call_response get 6 :status", defines=("NO_BODIES",))
    answer = threading.Event()

    def late(side: UpstreamSide) -> None:
        side.head()
        assert answer.wait(5)
        side.send(ok())

    with upstream(late) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        assert raw.get().body == b"served"
        answer.set()
        assert calling.said.until("get:")[-1] == "get: OK 200"


def test_a_vm_that_dies_takes_its_calls_with_it(gateway: LiveGateway, calling: Calling) -> None:
    """The second request's plugin traps while the first request waits for its call."""
    binding = calling.bind(f"request_headers {ASK}", PAUSE, "http_call_response trap")
    go = threading.Event()

    def script(side: UpstreamSide) -> None:
        side.head()
        if len(auth.connections) == 1:
            side.wait_for_close()
        else:
            assert go.wait(5)
            side.send(ok())

    with upstream(script) as auth, client(gateway.port) as first, client(gateway.port) as second:
        gateway.route(route_to(auth.port, bindings=(binding,)), upstreams=named(auth.port))
        first.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        auth.wait_for(b"GET /check")
        second.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        gateway.until(lambda _: len(auth.connections) == 2)
        go.set()
        assert (second.response().status, first.response().status) == (503, 503)
        assert auth.connections[0].ended.wait(5)


def test_a_plugin_whose_answer_traps_under_fail_open(gateway: LiveGateway, calling: Calling) -> None:
    binding = calling.bind(f"request_headers {ASK}", PAUSE, "http_call_response trap", policy="fail_open")
    with upstream(answering(ok())) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, bindings=(binding,)), upstreams=named(auth.port))
        assert raw.get().body == b"served"


# --- the dialect of APISIX


def test_in_apisix_a_request_waits_although_it_was_let_go(gateway: LiveGateway, calling: Calling) -> None:
    script = ("http_call_response effective 2", "http_call_response add 0 x-user ann")
    with upstream(answering(ok())) as auth, upstream(answering(ok(b"served"))) as server:
        call = f"request_headers http_call {HOST}:{auth.port} 5000 % %"
        for binding, seen, sent in (
            (calling.bind(call, *script, dialect="apisix"), 1, b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % auth.port),
            (calling.bind(f"{call} :path=a :authority=h", *script, dialect="apisix"), 1, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ):
            before = server.received.count(b"x-user: ann")
            gateway.route(route_to(server.port, bindings=(binding,)))
            with client(gateway.port) as raw:
                assert raw.get().body == b"served"
            assert server.received.count(b"x-user: ann") == before + seen
            assert auth.received.endswith(sent)


def test_in_apisix_a_call_goes_before_a_reply_of_the_same_callback(gateway: LiveGateway, calling: Calling) -> None:
    with upstream(answering(ok())) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        call = f"request_headers http_call {HOST}:{auth.port} 5000 % %"
        binding = calling.bind("request_headers reply 403 x x", call, dialect="apisix")
        gateway.route(route_to(server.port, bindings=(binding,)))
        assert raw.get().body == b"served"


def test_in_apisix_the_last_of_several_calls_lets_the_body_go(gateway: LiveGateway, calling: Calling) -> None:
    with upstream(answering(ok())) as auth, upstream(answering(ok(b"served"))) as server, client(gateway.port) as raw:
        call = f"http_call {HOST}:{auth.port} 5000 % %"
        binding = calling.bind(
            "request_headers set_property wasm_process_req_body yes",
            f"request_body {call}",
            "http_call_response#1 effective 2",
            f"http_call_response#1 {call}",
            dialect="apisix",
        )
        gateway.route(route_to(server.port, bindings=(binding,)))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello")
        assert raw.response().body == b"served"
        assert auth.received.count(b"GET / ") == 2
        assert server.received.endswith(b"\r\n\r\nhello")


# --- TLS


def test_over_tls_the_server_proves_its_name(gateway: LiveGateway, tmp_path: Path) -> None:
    server = TlsServer(tmp_path / "tls")

    def trusting(*protocols: str) -> ssl.SSLContext:
        context = client_context(*protocols)
        context.load_verify_locations(server.authority)
        return context

    try:
        with calling_gateway(gateway, trusting) as calling:
            for target, authority in (
                (f"{HOST}:{server.port}", "localhost :scheme=https"),
                (f"{HOST}:{server.port}", "localhost :scheme=https"),
                (f"https://{HOST}:{server.port}", f"{HOST}:1"),
                (f"https://{HOST}:{server.port}", "other.test"),
            ):
                binding = calling.bind(
                    f"request_headers http_call {target} 5000 % % :method=GET :path=/ :authority={authority}",
                    *(PAUSE, "http_call_response buffer 4 0 99", "http_call_response status"),
                    *("http_call_response effective 2", "http_call_response reply 200 x x"),
                )
                gateway.route(route_to(server.port, bindings=(binding,)))
                with client(gateway.port) as raw:
                    assert raw.get().status == 200
        assert calling.said.results("buffer") == ["OK over TLS"] * 3 + ["NOT_FOUND"]
        assert calling.said.results("status")[-1] == "OK 11 cannot connect"
        assert len(server.requests) == 3
    finally:
        server.close()
