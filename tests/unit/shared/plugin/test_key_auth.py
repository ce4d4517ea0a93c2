"""key-auth: a key in a header or in the query (apisix.md, section 6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.native import Native, refusal

CONSUMERS = {"jack": {"key-auth": {"key": "jack's key"}}, "rose": {"key-auth": {"key": "ключ"}}}


def native(**conf: Any) -> Native:  # noqa: ANN401 - JSON
    return Native({"key-auth": conf}, consumers=CONSUMERS)


@pytest.mark.parametrize(
    ("conf", "target", "fields", "username"),
    [
        ({}, "/p", ("apikey: jack's key",), "jack"),
        ({}, "/p", ("ApiKey:   jack's key  ",), "jack"),
        ({}, "/p", ("apikey: ключ",), "rose"),
        ({}, "/p?a=1&apikey=jack%27s+key", (), "jack"),
        ({}, "/p?apikey=wrong", ("apikey: jack's key",), "jack"),
        ({"header": "X-Key", "query": "k"}, "/p", ("x-key: jack's key",), "jack"),
        ({"header": "X-Key", "query": "k"}, "/p?k=jack's%20key", (), "jack"),
    ],
)
def test_who_has_the_key(conf: dict[str, Any], target: str, fields: tuple[str, ...], username: str) -> None:
    message = native(**conf).request(target, *fields)
    assert message is not None
    assert message["x-consumer-username"] == username
    # Shown to the upstream, unless that was not wanted.
    assert message.target == target


MISSING, INVALID = "Missing API key in request", "Invalid API key in request"


@pytest.mark.parametrize(
    ("target", "fields", "text"),
    [
        ("/p", (), MISSING),
        ("/p", ("x-apikey: jack's key",), MISSING),
        ("/p", ("apikey: Jack's key",), INVALID),
        ("/p", ("apikey: jack's key2",), INVALID),
        ("/p", ("apikey: jack's ke",), INVALID),
        ("/p", ("apikey:",), INVALID),
        # What stands in the header counts.
        ("/p?apikey=jack's%20key", ("apikey: wrong",), INVALID),
        ("/p?apikey=jack's%20key", ("apikey:",), INVALID),
        # The upstream might read the other one.
        ("/p", ("apikey: jack's key", "apikey: jack's key"), INVALID),
        ("/p?apikey=", (), INVALID),
        ("/p?apikey", (), INVALID),
    ],
)
def test_who_has_none_is_refused(target: str, fields: tuple[str, ...], text: str) -> None:
    reply = native().reply(target, *fields)
    assert reply.status == 401
    assert reply.body == b'{"message":"%b"}\n' % text.encode()
    assert reply["www-authenticate"] == 'apikey realm="key"'


def test_the_realm_is_told() -> None:
    assert native(realm="my place").reply("/p")["www-authenticate"] == 'apikey realm="my place"'


def test_credentials_are_hidden_from_the_upstream() -> None:
    hiding = native(hide_credentials=True)
    message = hiding.request("/p?a=%41&apikey=x", "apikey: jack's key")
    assert message is not None
    assert (message["apikey"], message.target) == (None, "/p?a=%41&apikey=x")
    message = hiding.request("/p?a=%41&apikey=jack%27s+key&b=2&apikey=other")
    assert message is not None
    assert message.target == "/p?a=%41&b=2"


def test_an_anonymous_consumer_stands_for_those_without_a_key() -> None:
    anonymous = native(anonymous_consumer="rose", hide_credentials=True)
    for fields in ((), ("apikey: wrong",)):
        message = anonymous.request("/p", *fields)
        assert message is not None
        assert message["x-consumer-username"] == "rose"
    reply = native(anonymous_consumer="nobody").reply("/p")
    assert (reply.status, reply.body) == (401, b'{"message":"Invalid user authorization"}\n')


def test_a_client_cannot_say_who_it_is() -> None:
    said = ("X-Consumer-Username: root", "x_consumer_username: root", "X-Credential-Identifier: c", "X_Consumer-Custom_ID: 1")
    message = native().request("/p", "apikey: jack's key", *said)
    assert message is not None
    told = [(name, value) for name, value in message.fields if "consumer" in name or "credential" in name]
    assert told == [("x-consumer-username", "jack")]
    # Where nobody authenticates, too, and where the plugin does not run.
    for plugins in ({"echo": {"body": "x"}}, {"key-auth": {"_meta": {"filter": [["arg_a", "==", "1"]]}}}):
        message = Native(plugins, consumers=CONSUMERS).request("/p", *said)
        assert message is not None
        assert not [name for name, _ in message.fields if "consumer" in name or "credential" in name]


def test_two_plugins_attach_one_consumer() -> None:
    consumers = {"jack": CONSUMERS["jack"], "rose": {"basic-auth": {"username": "rose", "password": "p"}}}
    both = Native({"key-auth": {}, "basic-auth": {}}, consumers=consumers)
    message = both.request("/p", "apikey: jack's key", "Authorization: Basic cm9zZTpw")
    assert message is not None
    # The one that runs last.
    assert message.all("x-consumer-username") == ["jack"]


def test_meta_replaces_the_answer() -> None:
    told = Native({"key-auth": {"_meta": {"error_response": {"why": "no key"}}}}, consumers=CONSUMERS).reply("/p")
    assert (told.status, told.body) == (401, b'{"why":"no key"}\n')
    assert told["www-authenticate"] == 'apikey realm="key"'


def test_variables_know_the_consumer() -> None:
    plugins = {"key-auth": {}, "proxy-rewrite": {"headers": {"set": {"X-By": "${consumer_name}!$consumer_group_id"}}}}
    message = Native(plugins, consumers=CONSUMERS).request("/p", "apikey: jack's key")
    assert message is not None
    assert message["x-by"] == "jack!"


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"header": "a b"}, "not a header name"),
        ({"header": 5}, "expected string"),
        ({"query": ""}, "string too short"),
        ({"hide_credentials": "yes"}, "expected boolean"),
        ({"anonymous_consumer": ""}, "string too short"),
        ({"realm": 'a"b'}, "failed to match pattern"),
        ({"realm": "a\nb"}, "failed to match pattern"),
        ({"key": "x"}, "additional properties forbidden, found key"),
    ],
)
def test_bad_configurations_are_refused(conf: dict[str, Any], text: str) -> None:
    assert text in refusal("key-auth", conf)
