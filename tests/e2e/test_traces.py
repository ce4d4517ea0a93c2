"""A request with the trace key is recorded, and its answer says where the record is; nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from data_plane.observe.traces import MOST_TRACES
from tests.support.command import wait_until
from tests.support.gateway import ScriptedUpstream, answering, ok, upstream
from tests.support.guest import console
from tests.support.up import Up, waspgate_up

KEY = "a-key-of-an-operator"
LINK = "x-waspgate-trace"
LATE = "request_headers return 1\nconfigure tick_period 20\ntick effective 2\ntick continue 0"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with upstream(answering(ok(b"hello", b"Server: up"))) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, server: ScriptedUpstream) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    with waspgate_up(folder, server.port, WASPGATE_TRACE_KEY=KEY) as started:
        for name in ("first", "second"):
            started.upload(name, console())
        conf = {"first": {"conf": "request_headers replace 0 x-a 1"}, "second": {"conf": "response_headers remove 2 server"}}
        routes: dict[str, Any] = {
            "plugins": {"uri": "/plugins", "plugins": conf},
            "plain": {"uri": "/plain"},
            "late": {"uri": "/late", "plugins": {"first": {"conf": LATE}}},
            "traps": {"uri": "/traps", "plugins": {"first": {"conf": "response_headers trap"}}},
            "cuts": {"uri": "/cuts", "plugins": {"first": {"conf": "request_headers close 0"}}},
        }
        for name, route in routes.items():
            started.put(f"routes/{name}", route | {"upstream": started.upstream})
        started.settle()
        yield started


def ask(up: Up, path: str, key: str | None = KEY, **options: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has it
    headers = {"Host": "any.test"} | ({} if key is None else {"X-Waspgate-Trace": key})
    return httpx.get(f"http://{up.listen}{path}", headers=headers, trust_env=False, timeout=10, **options)


def read(response: httpx.Response) -> dict[str, Any]:
    """What the link leads to, once it is there: the trace is kept after the answer has gone."""
    found = list[dict[str, Any]]()

    def there() -> bool:
        answer = httpx.get(response.headers[LINK], trust_env=False, timeout=10)
        if answer.status_code == 200:
            found.append(answer.json())
        return bool(found)

    wait_until(there, "the trace is kept")
    return found[0]


def test_a_trace_has_the_callbacks_and_host_calls_of_every_plugin(up: Up, server: ScriptedUpstream) -> None:
    response = ask(up, "/plugins?q=1")
    assert (response.status_code, response.text, "server" in response.headers) == (200, "hello", False)
    assert response.headers[LINK].startswith(f"{up.pages['control']}/v1/traces/")
    trace = read(response)
    assert (trace["method"], trace["path"], trace["host"], trace["route"]) == ("GET", "/plugins", "any.test", "plugins")
    assert (trace["status"], trace["entries_dropped"], trace["client"]) == (200, 0, "127.0.0.1")
    callbacks = [(entry["plugin"], entry["name"]) for entry in trace["transcript"] if entry["kind"] == "callback"]
    for plugin, name in (("first", "request_headers"), ("second", "response_headers"), ("first", "log"), ("first", "delete")):
        assert (plugin, f"proxy_on_{name}") in callbacks
    text = [line.partition("  (")[0].strip() for line in trace["text"]]
    assert 'proxy_replace_header_map_value(map=REQUEST_HEADERS, key="x-a", value="1") -> OK' in text
    assert 'proxy_remove_header_map_value(map=RESPONSE_HEADERS, key="server") -> OK' in text
    assert "[first]" in text
    assert text.index("[first]") < text.index("[second]")
    assert any(line.startswith("the request goes on head=") and "x-a: 1" in line for line in text)
    assert all(entry["microseconds"] >= 0 for entry in trace["transcript"] if entry["kind"] != "note")


def test_the_key_goes_to_no_upstream(up: Up, server: ScriptedUpstream) -> None:
    ask(up, "/plain")
    ask(up, "/plugins", "a-wrong-key-of-somebody")
    assert b"waspgate-trace" not in server.received.lower()
    assert KEY.encode() not in server.received


@pytest.mark.parametrize("key", [None, "", "a-key-of-an-operato", "a-key-of-an-operator!", "A-KEY-OF-AN-OPERATOR"])
def test_without_the_key_there_is_no_trace(up: Up, key: str | None) -> None:
    response = ask(up, "/plugins", key)
    assert response.status_code == 200
    assert LINK not in response.headers


def test_a_request_without_plugins_or_route_is_traced_too(up: Up) -> None:
    plain, missing = read(ask(up, "/plain")), read(ask(up, "/nowhere"))
    assert (plain["route"], plain["status"], plain["transcript"]) == ("plain", 200, [])
    assert (missing["route"], missing["status"]) == (None, 404)


def test_a_traced_request_may_wait_for_a_timer(up: Up) -> None:
    trace = read(ask(up, "/late"))
    names = [entry["name"] for entry in trace["transcript"]]
    assert names.index("proxy_on_tick") < names.index("the request goes on")
    assert trace["status"] == 200


def test_a_failure_is_in_the_trace_and_touches_no_other_request(up: Up) -> None:
    traced = ask(up, "/traps")
    assert traced.status_code == 503
    trace = read(traced)
    assert not [entry for entry in trace["transcript"] if entry["name"] == "proxy_on_response_headers"][-1]["returned"]
    page = f"{up.pages['control']}/v1/plugins/wasm/first"
    wait_until(lambda: httpx.get(page, trust_env=False).status_code == 200, "the worker has told of the plugin")
    assert up.control("/v1/plugins/wasm/first")["failures"] == 0
    assert ask(up, "/plugins", None).status_code == 200


def test_a_stream_that_is_cut_leaves_a_worker_that_serves(up: Up) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        ask(up, "/cuts")
    assert read(ask(up, "/plain"))["status"] == 200


def test_many_requests_of_one_connection(up: Up) -> None:
    with httpx.Client(base_url=f"http://{up.listen}", trust_env=False, timeout=10) as client:
        answers = [client.get("/plugins", headers={"X-Waspgate-Trace": key}) for key in (KEY, "no", KEY, "no")]
    assert [LINK in answer.headers for answer in answers] == [True, False, True, False]
    assert answers[0].headers[LINK] != answers[2].headers[LINK]


def test_the_oldest_trace_goes_first(up: Up) -> None:
    first = ask(up, "/plain")
    read(first)
    last = [ask(up, "/plain") for _ in range(MOST_TRACES)][-1]
    read(last)
    assert httpx.get(first.headers[LINK], trust_env=False).status_code == 404


@pytest.mark.parametrize("name", ["", "0" * 32, "..%2fdata.mdb", "x"])
def test_what_is_no_trace_is_not_found(up: Up, name: str) -> None:
    answer = httpx.get(f"{up.pages['control']}/v1/traces/{name}", trust_env=False)
    assert (answer.status_code, answer.json()) == (404, {"error_msg": f"trace[{unquote(name)}] not found"})
