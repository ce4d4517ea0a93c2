"""The library as somebody else's tests use it: only names of `shared.proxy_wasm`, and a module."""

from __future__ import annotations

from typing import Any

import pytest

import shared.proxy_wasm
from shared.proxy_wasm import (
    EngineError,
    Facts,
    Headers,
    Limits,
    LogLevel,
    Missing,
    ModuleError,
    Plugin,
    Refused,
    Request,
    Response,
    Shared,
    VmFailed,
)
from shared.proxy_wasm.foreign.call import ForeignCall
from tests.support.guest import assemble, build, console

# A plugin without body callbacks, and one that makes a call for each request and waits for the answer.
CALLER = r"""
#include "allocator.h"
#include "proxy_wasm.h"
PROXY_IMPORT("proxy_http_call")
enum proxy_status proxy_http_call(const char *upstream, size_t n, const char *headers, size_t headers_size, const char *body,
                                  size_t body_size, const char *trailers, size_t trailers_size, uint32_t timeout, uint32_t *id);
PROXY_IMPORT("proxy_set_effective_context") enum proxy_status proxy_set_effective_context(uint32_t id);
#define FIELDS "\3\0\0\0" "\7\0\0\0" "\3\0\0\0" "\5\0\0\0" "\3\0\0\0" "\12\0\0\0" "\1\0\0\0" \
    ":method\0GET\0" ":path\0/ok\0" ":authority\0a"
static uint32_t waiting;
PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}
PROXY_EXPORT("proxy_on_request_headers") uint32_t on_request_headers(uint32_t context, uint32_t count, uint32_t eos) {
    uint32_t id;
    waiting = context;
    enum proxy_status status = proxy_http_call("auth", 4, FIELDS, sizeof FIELDS, "body", 4, "", 0, 500, &id);
    if (status != PROXY_OK) proxy_log(PROXY_ERROR, "no call", 7);
    return status == PROXY_OK ? PROXY_PAUSE : PROXY_CONTINUE;
}
PROXY_EXPORT("proxy_on_http_call_response")
void on_response(uint32_t root, uint32_t call, uint32_t headers, uint32_t size, uint32_t trailers) {
    char *value;
    size_t n;
    proxy_set_effective_context(waiting);
    if (!headers) {
        proxy_send_local_response(504, "timeout", 7, "", 0, "", 0, PROXY_NO_GRPC_STATUS);
        return;
    }
    proxy_get_header_map_value(PROXY_HTTP_CALL_RESPONSE_HEADERS, "x-user", 6, &value, &n);
    proxy_replace_header_map_value(PROXY_REQUEST_HEADERS, "x-user", 6, value, n);
    proxy_continue_stream(PROXY_REQUEST_STREAM);
}
"""


def load(*script: str, **options: Any) -> Plugin:  # noqa: ANN401 - as Plugin.load has them
    return Plugin.load(console(), configuration="\n".join(script), **options)


def test_a_request_goes_to_the_upstream_and_back() -> None:
    with load("request_headers replace 0 x-a 1", "response_headers remove 2 server") as plugin:
        asked = list[Request]()

        def upstream(request: Request) -> Response:
            asked.append(request)
            return Response(201, Headers([("Server", "up"), ("X-B", "2")]), b"made")

        stream = plugin.request("POST", "/p?q=1", headers={"X-C": "3"}, body="hello", authority="a.test", response=upstream)
        assert stream.forwarded is asked[0]
        assert (stream.forwarded.method, stream.forwarded.path, stream.forwarded.authority) == ("POST", "/p?q=1", "a.test")
        assert stream.forwarded.headers == [("x-c", "3"), ("x-a", "1")]
        assert (stream.forwarded.body, stream.forwarded.complete) == (b"hello", True)
        assert (stream.response.status, stream.response.text, stream.response.complete) == (201, "made", True)
        assert stream.response.headers == {"x-b": "2"}
        assert stream.ended
        assert "request_headers 2 6 0" in plugin.messages
        assert plugin.messages[-1] == "delete 2"


def test_a_body_arrives_in_its_pieces() -> None:
    with load("request_body set_buffer 0 0 0 >", "request_body#2 return 1", "response_body return 3") as plugin:
        stream = plugin.request(chunks=[b"one", b"two", b"three"], response=Response(chunks=(b"a", b"b")))
        assert stream.forwarded.body == b">one>>twothree"
        assert stream.response.body == b""
        assert "request_body 2 5 0" not in plugin.messages


def test_a_local_response_passes_the_response_callbacks() -> None:
    with load("request_headers reply 403 details no", "response_headers add 2 x-seen 1") as plugin:
        stream = plugin.request()
        assert stream.local_reply is not None
        assert (stream.local_reply.status, stream.local_reply.body, stream.local_reply.details) == (403, b"no", "details")
        assert (stream.response.status, stream.response.body) == (403, b"no")
        assert stream.response.headers == {"content-type": "text/plain", "x-seen": "1"}
        assert not stream.was_forwarded
        with pytest.raises(Missing, match="the upstream got no request: the plugin sent a local response"):
            _ = stream.forwarded


def test_a_local_response_in_place_of_the_upstreams() -> None:
    """The response callbacks had begun: it goes past them, and on_log sees it."""
    with load("response_headers reply 500 late x", "log get 2 :status") as plugin:
        stream = plugin.request(response=Response(chunks=(b"a", b"b")))
        assert (stream.response.status, stream.response.body) == (500, b"x")
        assert plugin.messages.count("get: OK 500") == 1
        assert "response_body 2 1 0" not in plugin.messages


def test_a_failure_when_something_has_left_cuts_the_response() -> None:
    stream = load("response_body#2 trap").request(response=Response(chunks=(b"a", b"b", b"c")))
    assert stream.failure is not None
    assert (stream.closed, stream.response.complete, stream.response.body) == (True, False, b"a")


def test_a_paused_request_waits_for_a_tick() -> None:
    script = (
        "configure tick_period 50",
        "request_headers return 1",
        "tick effective 2",
        "tick replace 0 x-late 1",
        "tick continue 0",
    )
    with load(*script) as plugin:
        assert plugin.tick_period_ms == 50
        stream = plugin.request("PUT", chunks=[b"ab", b"cd"])
        assert stream.paused == "request"
        assert not stream.has_response
        with pytest.raises(Missing, match="the request waits in the plugin"):
            _ = stream.response
        assert "request_body 2 2 0" not in plugin.messages
        plugin.tick()
        assert not stream.paused
        assert stream.forwarded.headers["x-late"] == "1"
        assert stream.forwarded.body == b"abcd"
        assert stream.response.status == 200


def test_a_paused_body_waits_too() -> None:
    with load(
        "request_body return 1", "response_body return 1", "tick effective 2", "tick#1 continue 0", "tick#2 continue 1"
    ) as plugin:
        stream = plugin.request(body="held", response=Response(body=b"back"))
        assert (stream.paused, stream.forwarded.complete, stream.forwarded.body) == ("request", False, b"")
        plugin.tick()
        assert (stream.paused, stream.forwarded.body) == ("response", b"held")
        plugin.tick()
        assert stream.response.body == b"back"


def test_trailers_come_behind_the_body() -> None:
    script = ("request_trailers replace 1 x-t 2", "response_body add 3 x-made 1")
    with load(*script) as plugin:
        stream = plugin.request("POST", body="b", trailers={"x-t": "1"}, response=Response(200, body=b"back"))
        assert "request_body 2 1 0" in plugin.messages
        assert "request_trailers 2 1" in plugin.messages
        assert (stream.forwarded.body, stream.forwarded.complete) == (b"b", True)
        assert stream.forwarded.trailers == {"x-t": "2"}
        assert (stream.response.body, stream.response.complete) == (b"back", True)
        assert stream.response.trailers == {"x-made": "1"}
        answered = plugin.request(response=Response(200, chunks=[b"a", b"b"], trailers={"x-u": "3"}))
        assert answered.response.trailers == {"x-u": "3"}
        assert "response_trailers 2 1" in plugin.messages


@pytest.mark.parametrize("held", ["headers", "body", "trailers"])
def test_trailers_wait_with_what_is_before_them(held: str) -> None:
    script = (f"request_{held} return 1", "tick effective 2", "tick continue 0")
    with load(*script) as plugin:
        stream = plugin.request(body="b", trailers={"x-t": "1"})
        if held == "body":
            # What holds the body lets it go with the trailers' own callback.
            assert stream.forwarded.complete
        else:
            assert stream.paused == "request"
            plugin.tick()
        assert stream.forwarded.body == b"b"
        assert stream.forwarded.trailers == {"x-t": "1"}
        assert stream.response.status == 200


def test_a_client_may_leave() -> None:
    with load("request_headers return 1") as plugin:
        stream = plugin.request()
        plugin.abandon(stream)
        assert stream.ended
        assert plugin.messages[-3:] == ["done 2", "log 2", "delete 2"]
        plugin.abandon(stream)
        assert plugin.messages.count("delete 2") == 1


def test_a_plugin_may_close_the_stream() -> None:
    with load("request_headers close 0") as plugin:
        stream = plugin.request()
        assert stream.closed
        assert stream.ended
        assert not stream.has_response


def test_a_body_larger_than_the_plugin_may_hold() -> None:
    with load("request_body return 1", limits=Limits(body_buffer_bytes=4)) as plugin:
        assert plugin.request(chunks=[b"abc", b"def"]).response.status == 413


def test_a_removed_pseudo_header() -> None:
    with load("request_headers remove 0 :path") as plugin:
        assert plugin.request().response.status == 500


def test_a_trap_is_503_and_the_end_of_the_vm() -> None:
    plugin = load("request_headers#1 trap")
    stream = plugin.request()
    assert stream.failure is plugin.failure
    assert plugin.failure is not None
    assert plugin.failure.code == "unreachable"
    assert stream.response.status == 503
    assert plugin.request().response.status == 503
    with pytest.raises(VmFailed):
        plugin.tick()
    plugin.close()


def test_a_refusal_tells_what_the_plugin_said() -> None:
    with pytest.raises(Refused) as refused:
        load("configure log 4 because", "configure return 0")
    assert refused.value.stage == "configure"
    assert [line.message for line in refused.value.logs if line.level is LogLevel.ERROR] == ["because"]
    assert "ERROR: because" in refused.value.__notes__


@pytest.mark.parametrize(
    ("module", "error", "text"),
    [
        (b"text", ModuleError, "not a Wasm module"),
        (assemble("", imports='(import "env" "nonsense" (func))'), ModuleError, "unknown import env.nonsense"),
        (assemble('(memory 1000) (func $f (unreachable)) (export "x" (func $f))', frame=""), ModuleError, "not a Proxy-Wasm"),
    ],
)
def test_what_is_no_plugin_is_refused(module: bytes, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Plugin.load(module)
    assert issubclass(error, ValueError)
    assert not issubclass(EngineError, ModuleError)


def test_shared_data_queues_and_metrics_can_be_looked_at() -> None:
    script = (
        *("configure set_data key value", "configure register_queue jobs", "configure define_metric 0 hits"),
        *("request_headers define_metric 0 hits", "request_headers increment_metric @ 2"),
        *("response_headers define_metric 2 sizes", "response_headers record_metric @ 7"),
        *("tick resolve_queue  jobs", "tick enqueue @ work", "queue_ready dequeue @"),
    )
    with load(*script, name="mine") as plugin:
        assert plugin.shared_data == {b"key": b"value"}
        assert plugin.queues == {"jobs": []}
        plugin.request()
        assert plugin.metrics["hits"].value == 2
        assert plugin.metrics["sizes"].samples == [7]
        plugin.tick()
        plugin.enqueue("jobs", "more")
        assert [line for line in plugin.messages if line.startswith("dequeue")] == ["dequeue: OK work", "dequeue: OK more"]
        assert plugin.queues == {"jobs": []}
        with pytest.raises(KeyError):
            plugin.enqueue("other", "x")


def test_plugins_with_the_same_shared_state_reach_each_other() -> None:
    shared = Shared()
    with (
        load("configure register_queue jobs", "queue_ready dequeue @", name="reader", shared=shared) as reader,
        load("request_headers resolve_queue reader jobs", "request_headers enqueue @ hello", shared=shared) as writer,
    ):
        writer.request()
        reader.run_due()
        assert "dequeue: OK hello" in reader.messages


def test_a_sibling_has_the_vm_but_its_own_configuration() -> None:
    with load("response_headers replace 2 x 1") as plugin, plugin.sibling("response_headers replace 2 x 2") as other:
        assert [one.request().response.headers["x"] for one in (plugin, other, plugin)] == ["1", "2", "1"]
        assert plugin.context_id != other.context_id


def test_foreign_functions_are_the_tests_own() -> None:
    def double(call: ForeignCall) -> bytes:
        call.later(7, b"done")
        return call.arguments * 2

    with load("request_headers foreign double ab", "foreign_function buffer 8 0 99", foreign={"double": double}) as plugin:
        plugin.request()
        assert "foreign: OK abab" in plugin.messages
        assert "buffer: OK done" in plugin.messages


def test_facts_are_properties() -> None:
    with load("request_headers property source%00address", "request_headers property xds%00route_name") as plugin:
        stream = plugin.request(facts=Facts(client_address=("203.0.113.9", 1), route_name="mine"))
        assert {"property: OK 203.0.113.9:1", "property: OK mine"} <= set(plugin.messages)
        assert stream.properties == {}


def test_properties_that_the_plugin_set_can_be_read() -> None:
    with load("request_headers set_property a%00b value") as plugin:
        assert plugin.request().properties == {b"a\0b": b"value"}


def test_a_call_is_answered_by_the_test() -> None:
    with Plugin.load(build(CALLER)) as plugin:
        stream = plugin.request()
        (call,) = plugin.http_calls
        assert stream.paused == "request"
        assert (call.upstream, call.method, call.path, call.authority) == ("auth", "GET", "/ok", "a")
        assert (call.body, call.timeout_ms, call.pending) == (b"body", 500, True)
        call.respond(Response(200, Headers({"x-user": "me"})))
        assert stream.forwarded.headers["x-user"] == "me"
        assert not call.pending
        with pytest.raises(RuntimeError, match="the call to auth has ended"):
            call.fail()


def test_a_call_may_fail() -> None:
    with Plugin.load(build(CALLER)) as plugin:
        stream = plugin.request()
        plugin.http_calls[0].fail()
        assert stream.response.status == 504


def test_nobody_waits_for_the_call_of_a_client_that_left() -> None:
    with Plugin.load(build(CALLER)) as plugin:
        stream = plugin.request()
        plugin.abandon(stream)
        assert not plugin.http_calls[0].pending
        assert not stream.has_response


def test_a_handler_answers_calls_as_they_come() -> None:
    with Plugin.load(build(CALLER), calls=lambda call: Response(200, Headers({"x-user": call.path}))) as plugin:
        assert plugin.request().forwarded.headers["x-user"] == "/ok"
        assert plugin.request().forwarded.headers["x-user"] == "/ok"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"method": "G T"}, "not a method"),
        ({"path": "x"}, "a path begins with /"),
        ({"path": "/a b"}, "has no blanks"),
        ({"headers": {"a b": "c"}}, "not a header name: 'a b'"),
        ({"headers": {"a": "b\r\nc: d"}}, "a control character in the value of a"),
        ({"body": "x", "chunks": [b"y"]}, "a body or chunks, not both"),
        ({"response": Response(100)}, "200 to 599"),
    ],
)
def test_a_request_that_cannot_be_is_refused(arguments: dict[str, Any], text: str) -> None:
    with load() as plugin, pytest.raises(ValueError, match=text):
        plugin.request(**arguments)


def test_headers_are_ordered_pairs_with_names_in_any_case() -> None:
    headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
    assert (headers["a"], headers.get("B"), headers.get("c"), headers.all("A")) == ("1", "2", None, ["1", "3"])
    assert "B" in headers
    assert headers != Headers([("a", "1"), ("a", "3"), ("b", "2")])
    assert headers == [("a", "1"), ("B", "2"), ("A", "3")]
    assert len(headers) == 3
    with pytest.raises(KeyError):
        _ = headers["c"]


def test_every_public_name_is_there() -> None:
    for name in shared.proxy_wasm.__all__:
        assert getattr(shared.proxy_wasm, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(shared.proxy_wasm, "nonsense")  # noqa: B009 - the type checker knows that it is absent
