"""consumer-restriction: who may come here (apisix.md, section 6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.config import Config
from tests.support.native import Native, refusal


def native(**conf: Any) -> Native:  # noqa: ANN401 - JSON
    """Jack and Rose, who is of the group `gold`, on route 1 of service `s`."""
    config = Config()
    config.put("services", "s", {"upstream": {"nodes": {"u.test:80": 1}}})
    plugins = {"key-auth": {"anonymous_consumer": "guest"}, "consumer-restriction": conf}
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "service_id": "s"})
    config.put("consumer_groups", "gold", {"plugins": {}})
    config.put("consumers", "jack", {"username": "jack", "plugins": {"key-auth": {"key": "jack"}}})
    config.put("consumers", "guest", {"username": "guest"})
    config.put("consumers", "rose", {"username": "rose", "group_id": "gold", "plugins": {"key-auth": {"key": "rose"}}})
    route = config.route("1")
    assert not config.compiler.problems
    return Native.of(route)


METHODS = [{"user": "jack", "methods": ["GET"]}, {"user": "jack", "methods": ["POST"]}]


@pytest.mark.parametrize(
    ("conf", "user", "method", "passes"),
    [
        ({"whitelist": ["jack"]}, "jack", "GET", True),
        ({"whitelist": ["jack"]}, "rose", "GET", False),
        ({"blacklist": ["jack"]}, "jack", "GET", False),
        ({"blacklist": ["jack"]}, "rose", "GET", True),
        ({"blacklist": ["jack"], "whitelist": ["jack"]}, "jack", "GET", False),
        ({"type": "consumer_group_id", "whitelist": ["gold"]}, "rose", "GET", True),
        ({"type": "consumer_group_id", "blacklist": ["gold"]}, "rose", "GET", False),
        ({"allowed_by_methods": METHODS}, "jack", "GET", True),
        ({"allowed_by_methods": METHODS}, "jack", "POST", False),
        ({"allowed_by_methods": METHODS}, "rose", "POST", True),
        ({"allowed_by_methods": METHODS, "whitelist": ["jack"]}, "jack", "POST", True),
        ({"allowed_by_methods": METHODS, "whitelist": ["rose"]}, "jack", "GET", False),
    ],
)
def test_who_passes(conf: dict[str, Any], user: str, method: str, *, passes: bool) -> None:
    stage = native(**conf)
    message = stage.request("/p", f"apikey: {user}", method=method)
    assert (message is not None) == passes
    if not passes:
        kind = conf.get("type", "consumer_name")
        assert stage.answer.status == 403
        assert stage.answer.body == b'{"message":"The %b is forbidden."}\n' % kind.encode()


def test_the_anonymous_consumer_has_a_name_too() -> None:
    assert native(whitelist=["guest"]).request("/p") is not None
    assert native(blacklist=["guest"]).reply("/p").status == 403


def test_a_request_of_nobody_is_refused() -> None:
    text = b'{"message":"The request is rejected, please check the consumer_group_id for this request"}\n'
    reply = native(type="consumer_group_id", blacklist=["x"]).reply("/p", "apikey: jack")
    assert (reply.status, reply.body) == (401, text)
    nobody = Native({"consumer-restriction": {"blacklist": ["x"]}}).reply("/p")
    assert nobody.status == 401


def test_what_is_said_to_who_is_refused() -> None:
    reply = native(blacklist=["jack"], rejected_code=404, rejected_msg="not here").reply("/p", "apikey: jack")
    assert (reply.status, reply.body) == (404, b'{"message":"not here"}\n')


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, "object matches none of the required"),
        ({"whitelist": []}, "at least 1 items"),
        ({"whitelist": [5]}, "expected string"),
        ({"type": "name", "whitelist": ["x"]}, "matches none of the enum values"),
        ({"allowed_by_methods": [{"user": "x"}]}, 'property "methods" is required'),
        ({"allowed_by_methods": [{"user": "x", "methods": ["get"]}]}, "matches none of the enum values"),
        ({"whitelist": ["x"], "rejected_code": 199}, "at least 200"),
        ({"whitelist": ["x"], "rejected_msg": ""}, "string too short"),
        ({"white": ["x"]}, 'did you mean "whitelist"?'),
    ],
)
def test_bad_configurations_are_refused(conf: dict[str, Any], text: str) -> None:
    assert text in refusal("consumer-restriction", conf)
