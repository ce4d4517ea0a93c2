"""multi-auth: any of several ways to authenticate (apisix.md, section 6)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Coroutine
from typing import Any, ClassVar, Literal

import pytest

from data_plane.http.head import parse_request
from shared.plugin import Plugin, Reply, Request, Spec
from shared.plugin.body import WholeBody
from shared.plugin.plugin import Answer
from shared.plugin.registry import registry
from tests.support.exchange import Client
from tests.support.native import Native, refusal

CONSUMERS = {
    "jack": {"key-auth": {"key": "one"}},
    "rose": {"basic-auth": {"username": "rose", "password": "two"}},
}
BOTH: list[dict[str, Any]] = [{"basic-auth": {}}, {"key-auth": {"hide_credentials": True}}]
ROSE = f"Authorization: Basic {b64encode(b'rose:two').decode()}"


def native(plugins: list[dict[str, Any]] = BOTH, **meta: Any) -> Native:  # noqa: ANN401 - JSON
    return Native({"multi-auth": {"auth_plugins": plugins, **meta}}, consumers=CONSUMERS)


@pytest.mark.parametrize(
    ("fields", "username"),
    [((ROSE,), "rose"), (("apikey: one",), "jack"), ((ROSE, "apikey: one"), "rose"), ((ROSE + "x", "apikey: one"), "jack")],
)
def test_the_first_that_lets_the_request_pass(fields: tuple[str, ...], username: str) -> None:
    message = native().request("/p", *fields)
    assert message is not None
    assert message.all("x-consumer-username") == [username]
    assert (message["apikey"] is None) == (username == "jack" or len(fields) == 1)


@pytest.mark.parametrize("fields", [(), ("apikey: two",), (ROSE + "x", "apikey: x")])
def test_who_none_of_them_knows_is_refused(fields: tuple[str, ...]) -> None:
    reply = native().reply("/p", *fields)
    assert (reply.status, reply.body) == (401, b'{"message":"Authorization Failed"}\n')
    assert reply.all("www-authenticate") == ['Basic realm="basic"', 'apikey realm="key"']


def test_two_in_one_object() -> None:
    message = native([{"basic-auth": {}, "key-auth": {}}, {"jwt-auth": {}}]).request("/p", "apikey: one")
    assert message is not None
    assert message["x-consumer-username"] == "jack"


class Nothing(Spec):
    pass


class ByBody(Plugin[Nothing]):
    """Knows a request by its body, of 8 bytes at most."""

    name = "by-body"
    priority = 1
    kind: ClassVar[Literal["", "auth"]] = "auth"
    Config = Nothing

    def rewrite(self, request: Request) -> Answer:
        return WholeBody(8, lambda request, body: None if body == b"secret" else Reply(401))


class ByOtherBody(ByBody):
    """One of 5 bytes at most."""

    name = "by-other-body"

    def rewrite(self, request: Request) -> Answer:
        return WholeBody(5, lambda request, body: None if body == b"other" else Reply(401))


class Waiting(ByBody):
    name = "waiting"

    def rewrite(self, request: Request) -> Answer:
        return self._later()

    async def _later(self) -> Reply | None:
        return Reply(401)


@pytest.fixture(autouse=True)
def _others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry().plugins, "by-body", ByBody)
    monkeypatch.setitem(registry().plugins, "by-other-body", ByOtherBody)
    monkeypatch.setitem(registry().plugins, "waiting", Waiting)


def test_one_that_reads_the_body_and_one_behind_it() -> None:
    plugins: list[dict[str, Any]] = [{"by-body": {}}, {"key-auth": {}}]
    assert native(plugins).request("/p", method="POST", body=b"secret") is not None
    message = native(plugins).request("/p", "apikey: one", method="POST", body=b"other")
    assert message is not None
    assert message["x-consumer-username"] == "jack"
    assert native(plugins).reply("/p", method="POST", body=b"other").status == 401
    assert native(plugins).reply("/p", "apikey: one", method="POST", body=b"far too long").status == 413


def test_two_that_read_the_body() -> None:
    plugins: list[dict[str, Any]] = [{"by-body": {}}, {"by-other-body": {}}, {"key-auth": {}}]
    message = native(plugins).request("/p", "apikey: one", method="POST", body=b"other")
    assert message is not None
    assert message["x-consumer-username"] is None
    # Too long for the second, which thus lets nobody pass.
    message = native(plugins).request("/p", "apikey: one", method="POST", body=b"longer")
    assert message is not None
    assert message["x-consumer-username"] == "jack"


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, 'property "auth_plugins" is required'),
        ({"auth_plugins": []}, "at least 2 items"),
        ({"auth_plugins": [{"key-auth": {}}]}, "at least 2 items"),
        ({"auth_plugins": [{"key-auth": {}}, {}]}, "at least 1 properties"),
        ({"auth_plugins": [{"key-auth": {}}, {"none": {}}]}, "none plugin did not found"),
        ({"auth_plugins": [{"key-auth": {}}, {"echo": {}}]}, "echo plugin is not supported"),
        ({"auth_plugins": [{"key-auth": {}}, {"multi-auth": {}}]}, "multi-auth plugin is not supported"),
        ({"auth_plugins": [{"key-auth": {}}, {"basic-auth": {"realm": 5}}]}, "plugin basic-auth check schema failed"),
    ],
)
def test_bad_configurations_are_refused(conf: dict[str, Any], text: str) -> None:
    assert text in refusal("multi-auth", conf)


async def test_one_that_waits() -> None:
    def first(plugins: list[dict[str, Any]], *fields: str) -> Coroutine[Any, Any, Reply | None]:
        stage = native(plugins)
        request = Request(parse_request(f"GET /p HTTP/1.1\r\nHost: t\r\n{''.join(fields)}".encode()), Client(stage.stage), None)
        answer = stage.route.bindings[0].bound.plugin.rewrite(request)  # type: ignore[union-attr]
        assert isinstance(answer, Coroutine)
        return answer

    assert await first([{"waiting": {}}, {"key-auth": {}}], "apikey: one\r\n") is None
    refused = await first([{"waiting": {}}, {"key-auth": {}}])
    assert refused is not None
    assert refused.status == 401
    # It cannot hold the request for its body any more.
    with pytest.raises(TypeError):
        await first([{"waiting": {}}, {"by-body": {}}])
