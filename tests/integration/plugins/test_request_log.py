"""plugins/go/request-log: lines reach the collector in batches, once, and survive its failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shared.proxy_wasm import Facts, HttpCall, Plugin, Refused, Response, Shared
from tests.support.examples import load

CONF: dict[str, object] = {"upstream": "collector", "path": "/logs", "batch": 3, "interval_ms": 50, "headers": ["User-Agent"]}


@pytest.fixture(scope="module")
def shared() -> Shared:
    return Shared()


@pytest.fixture(scope="module")
def loaded(shared: Shared) -> Iterator[Plugin]:
    with load("go-request-log", CONF, shared=shared) as plugin:
        yield plugin


@pytest.fixture
def plugin(loaded: Plugin) -> Plugin:
    """With nothing left over."""
    assert loaded.queues["request-log"] == []
    loaded.logs.clear()
    return loaded


def lines(call: HttpCall) -> list[dict[str, Any]]:
    assert call.body.endswith(b"\n")
    return [json.loads(line) for line in call.body.splitlines()]


def last_call(plugin: Plugin) -> HttpCall:
    call = plugin.http_calls[-1]
    assert call.pending
    return call


def test_a_line_says_what_happened(plugin: Plugin) -> None:
    facts = Facts(client_address=("192.0.2.9", 1234), route_name="orders")
    stream = plugin.request("PUT", "/a?b=c", headers={"user-agent": "test", "cookie": "x"}, response=Response(418), facts=facts)
    assert stream.response.status == 418
    plugin.tick()
    call = last_call(plugin)
    assert (call.method, call.upstream, call.path, call.headers["content-type"]) == (
        *("POST", "collector", "/logs"),
        "application/x-ndjson",
    )
    (line,) = lines(call)
    assert line.pop("duration_ms") > 0
    assert line == {
        "time": "2023-11-14T22:13:20Z",
        "client": "192.0.2.9:1234",
        "route": "orders",
        "method": "PUT",
        "host": "example.com",
        "path": "/a?b=c",
        "status": "418",
        "headers": {"User-Agent": "test"},
    }
    call.respond(Response(204))


def test_the_timer_sends_a_batch_at_a_time_and_nothing_when_there_is_nothing(plugin: Plugin) -> None:
    assert plugin.tick_period_ms == 50
    made = len(plugin.http_calls)
    plugin.tick()
    assert len(plugin.http_calls) == made
    for number in range(5):
        plugin.request(path=f"/{number}")
    plugin.tick()
    call = last_call(plugin)
    assert [line["path"] for line in lines(call)] == ["/0", "/1", "/2"]
    plugin.tick()
    assert last_call(plugin) is call, "one call at a time"
    call.respond(Response(200))
    plugin.tick()
    assert [line["path"] for line in lines(last_call(plugin))] == ["/3", "/4"]
    last_call(plugin).respond(Response(200))


def test_what_the_collector_did_not_take_is_sent_again(plugin: Plugin) -> None:
    plugin.request(path="/kept")
    plugin.tick()
    last_call(plugin).fail()
    plugin.request(path="/later")
    plugin.tick()
    assert [line["path"] for line in lines(last_call(plugin))] == ["/kept"]
    last_call(plugin).respond(Response(503))
    assert plugin.messages == [
        "request-log: the collector answered nothing; 1 lines wait",
        "request-log: the collector answered 503; 1 lines wait",
    ]
    for path in ("/kept", "/later"):
        plugin.tick()
        assert [line["path"] for line in lines(last_call(plugin))] == [path]
        last_call(plugin).respond(Response(200))


def test_a_request_that_the_plugin_saw_fail_is_logged_too(plugin: Plugin) -> None:
    stream = plugin.request(path="/left", response=lambda _: Response(200, chunks=(b"a", b"b")))
    assert stream.response.complete
    plugin.tick()
    assert lines(last_call(plugin))[0]["status"] == "200"
    last_call(plugin).respond(Response(200))


def test_without_a_collector_lines_go_to_the_log(plugin: Plugin) -> None:
    local = plugin.sibling('{"interval_ms": 20}')
    local.request(path="/here")
    local.tick()
    assert [json.loads(message)["path"] for message in plugin.messages] == ["/here"]
    local.close()


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"interval_ms": 9}, "a number from 10 to 3600000 is expected for interval_ms"),
        ({"timeout_ms": 0}, "a number from 1 to 60000 is expected for timeout_ms"),
        ({"batch": 10001}, "a number from 1 to 10000 is expected for batch"),
        ({"path": "logs"}, "a path that begins with / is expected for path"),
        ({"headers": ["x:y"]}, "not a header name: x:y"),
        ({"bach": 1}, 'json: unknown field "bach"'),
    ],
)
def test_a_bad_configuration_is_refused(plugin: Plugin, conf: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        plugin.sibling(json.dumps(conf))
    assert refused.value.logs[-1].message == f"request-log: bad configuration: {reason}"
