"""fault-injection, mocking and echo: answers that are made up."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from shared.plugin.builtin.fault_injection import FaultInjection
from shared.plugin.builtin.mocking import Mocking
from tests.support.native import Native, refusal


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was to be waited; nothing waits."""
    seconds: list[float] = []

    async def sleep(duration: float) -> None:
        seconds.append(duration)

    for plugin in (FaultInjection, Mocking):
        monkeypatch.setattr(plugin, "sleep", staticmethod(sleep))
    return seconds


def wait(scene: Native) -> None:
    """What the request waits for comes."""
    (answer, told) = scene.stage.waiting.pop()

    async def awaited() -> None:
        told(await answer, None)

    asyncio.run(awaited())


@pytest.mark.parametrize(
    ("abort", "target", "expected"),
    [
        ({"http_status": 503}, "/p", (503, b"")),
        ({"http_status": 200, "body": "Fault Injection!"}, "/p", (200, b"Fault Injection!")),
        ({"http_status": 403, "body": "no $arg_x at $uri"}, "/p?x=1", (403, b"no 1 at /p")),
        ({"http_status": 403, "vars": [["arg_x", "==", "1"]]}, "/p?x=1", (403, b"")),
        ({"http_status": 403, "vars": [["arg_x", "==", "1"]]}, "/p?x=2", None),
        ({"http_status": 403, "percentage": 0}, "/p", None),
        ({"http_status": 403, "percentage": 100}, "/p", (403, b"")),
    ],
)
def test_abort(abort: dict[str, object], target: str, expected: tuple[int, bytes] | None) -> None:
    scene = Native({"fault-injection": {"abort": abort}})
    got = scene.request(target)
    assert (None if got is not None else (scene.answer.status, scene.answer.body)) == expected


def test_half_of_them() -> None:
    scene = Native({"fault-injection": {"abort": {"http_status": 500, "percentage": 50}}})
    aborted = sum(scene.request() is None for _ in range(200))
    # 3 in 10^9 that it is farther off.
    assert 58 < aborted < 142


def test_headers_of_an_abort() -> None:
    got = Native({"fault-injection": {"abort": {"http_status": 418, "headers": {"X-A": "$remote_addr", "X-B": 2}}}}).reply()
    assert (got.status, got["x-a"], got["x-b"]) == (418, "10.0.0.1", "2")


def test_a_delay_comes_before_the_abort(slept: list[float]) -> None:
    scene = Native({"fault-injection": {"delay": {"duration": 1.5}, "abort": {"http_status": 400}}})
    assert scene.request() is None
    assert not scene.recorded.client
    wait(scene)
    assert (slept, scene.answer.status) == ([1.5], 400)


def test_a_delayed_request_goes_on(slept: list[float]) -> None:
    scene = Native({"fault-injection": {"delay": {"duration": 1}}, "proxy-rewrite": {"uri": "/new"}})
    assert scene.request(method="POST", body=b"ab", eos=False) is None
    wait(scene)
    assert scene.recorded.upstream[0].startswith(b"POST /new")
    assert scene.recorded.upstream[0].endswith(b"ab")


@pytest.mark.parametrize(("target", "status"), [("/?a=1&b=2", 503), ("/?c=3", 503), ("/?a=1", None)])
def test_one_of_several_lists_of_rules_is_enough(target: str, status: int | None) -> None:
    rules = [[["arg_a", "==", "1"], ["arg_b", "==", "2"]], [["arg_c", "==", "3"]]]
    scene = Native({"fault-injection": {"abort": {"http_status": 503, "vars": rules}}})
    passed = scene.request(target)
    assert (None if passed else scene.answer.status) == status


@pytest.mark.parametrize(
    "delay", [{"duration": 0}, {"duration": 1, "percentage": 0}, {"duration": 1, "vars": [["uri", "==", "/"]]}], ids=str
)
def test_who_is_not_delayed_does_not_wait(delay: dict[str, object]) -> None:
    assert Native({"fault-injection": {"delay": delay}}).request() is not None


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, "matches none of the required"),
        ({"abort": {}}, 'property "http_status" is required'),
        ({"abort": {"http_status": 100}}, "at least 200"),
        ({"abort": {"http_status": 1000}}, "at most 599"),
        ({"abort": {"http_status": 500, "percentage": 101}}, "at most 100"),
        ({"abort": {"http_status": 500, "body": 5}}, "wrong type: expected string"),
        ({"abort": {"http_status": 500, "headers": {}}}, "at least 1 properties"),
        ({"abort": {"http_status": 500, "headers": {"Connection": "x"}}}, "the gateway itself decides"),
        ({"abort": {"http_status": 500, "vars": [["a"]]}}, "failed to create vars expression"),
        ({"delay": {}}, 'property "duration" is required'),
        ({"delay": {"duration": -1}}, "expected -1 to be at least 0"),
        ({"delay": {"duration": "1"}}, "wrong type: expected number"),
        ({"delay": {"duration": 1, "vars": {}}}, "wrong type: expected array"),
    ],
    ids=str,
)
def test_faults_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("fault-injection", conf)


def test_a_mock_is_the_example() -> None:
    got = Native({"mocking": {"response_example": '{"at":"$uri"}', "response_headers": {"X-A": 5}}}).reply("/p")
    assert (got.status, got.body, got["x-a"], got["x-mock-by"]) == (200, b'{"at":"/p"}', "5", "waspgate")
    assert got["content-type"] == "application/json;charset=utf8"


def test_a_mock_by_schema() -> None:
    properties = {
        "a": {"type": "string"},
        "b": {"type": "integer", "example": 7},
        "c": {"type": "array", "items": {"type": "boolean"}},
        "d": {"type": "object", "properties": {"e": {"type": "number"}}},
    }
    schema = {"type": "object", "properties": properties}
    conf = {"response_schema": schema, "response_status": 203, "with_mock_header": False}
    got = Native({"mocking": conf}).reply()
    value = json.loads(got.body)
    assert (got.status, got["x-mock-by"], value["b"]) == (203, None, 7)
    assert isinstance(value["a"], str)
    assert all(isinstance(item, bool) for item in value["c"])
    assert isinstance(value["d"]["e"], float)
    got = Native({"mocking": {**conf, "content_type": "text/xml"}}).reply()
    assert re.fullmatch(rb"<data><a>\w+</a><b>7</b>.*</data>", got.body)


def test_a_late_mock(slept: list[float]) -> None:
    scene = Native({"mocking": {"response_example": "x", "delay": 2}})
    assert scene.request() is None
    wait(scene)
    assert (slept, scene.answer.body) == ([2], b"x")


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, "matches none of the required"),
        ({"response_example": 5}, "wrong type: expected string"),
        ({"response_example": "x", "content_type": "image/png"}, "unsupported content type!"),
        ({"response_example": "x", "response_status": 99}, "at least 200"),
        ({"response_example": "x", "delay": -1}, "at least 0"),
        ({"response_schema": {"type": "thing"}}, "unknown type"),
        ({"response_schema": {"properties": {"a": 5}}}, "expected a schema"),
        ({"response_schema": {"type": "array", "items": []}}, "expected a schema"),
        ({"response_example": "x", "response_headers": {}}, "at least 1 properties"),
        ({"response_example": "x", "response_headers": {"a": "b\r\n"}}, "control characters"),
    ],
    ids=str,
)
def test_mocks_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("mocking", conf)


@pytest.mark.parametrize("pieces", [(b"hello",), (b"he", b"llo"), (b"",)])
@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({"before_body": "<"}, "<%s"),
        ({"after_body": ">"}, "%s>"),
        ({"before_body": "<", "body": "new", "after_body": ">"}, "<new>"),
    ],
)
def test_echo(conf: dict[str, object], expected: str, pieces: tuple[bytes, ...]) -> None:
    scene = Native({"echo": conf})
    scene.request()
    body = scene.response(*pieces).body
    wanted = (expected % b"".join(pieces).decode() if "%" in expected else expected).encode()
    assert body == wanted or b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", body)) == wanted


def test_echo_of_headers_leaves_the_length() -> None:
    got = Native({"echo": {"headers": {"X-A": "b"}}}).passed()
    assert (got["x-a"], got["content-length"], got.body) == ("b", "5", b"hello")
    assert "matches none of the required" in refusal("echo", {})
    assert "string too short" in refusal("echo", {"body": ""})
