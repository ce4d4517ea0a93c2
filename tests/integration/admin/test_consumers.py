"""Consumers, credentials and consumer groups in the Admin API: verbs, messages and keys as APISIX has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.admin import Admin


def keyed(username: str, key: str, **more: object) -> dict[str, Any]:
    return {"username": username, "plugins": {"key-auth": {"key": key}}, **more}


async def test_a_consumer_is_known_by_its_name(api: Admin) -> None:
    written = await api.ok("PUT", "/consumers", keyed("jack", "one"))
    assert written["key"] == "/apisix/consumers/jack"
    assert written["value"]["username"] == "jack"
    assert "id" not in written["value"]
    assert (await api.call("PUT", "/consumers/jack", keyed("jack", "two"))).status_code == 200
    read = await api.ok("GET", "/consumers/jack")
    assert read["value"]["create_time"] == written["value"]["create_time"]
    assert await api.ok("DELETE", "/consumers/jack") == {"deleted": "1", "key": "/apisix/consumers/jack"}
    assert await api.refused(404, "GET", "/consumers/jack") == "Key not found"


@pytest.mark.parametrize(
    ("verb", "path", "status", "message"),
    [
        ("POST", "/consumers", 405, "not supported `POST` method for consumer"),
        ("PATCH", "/consumers/jack", 405, "not supported `PATCH` method for consumer"),
        ("POST", "/consumer_groups", 405, "not supported `POST` method for consumer_group"),
    ],
)
async def test_verbs_that_there_are_not(api: Admin, verb: str, path: str, status: int, message: str) -> None:
    assert await api.refused(status, verb, path, {}) == message


async def test_credentials_are_a_consumers(api: Admin) -> None:
    path, body = "/consumers/jack/credentials/c1", {"plugins": {"key-auth": {"key": "one"}}, "desc": "the first"}
    assert await api.refused(404, "PUT", path, body) == "consumer not found"
    await api.ok("PUT", "/consumers", {"username": "jack"})
    written = await api.ok("PUT", path, body)
    assert written["key"] == "/apisix/consumers/jack/credentials/c1"
    assert written["value"]["id"] == "c1"
    await api.ok("PUT", "/consumers", {"username": "rose"})
    await api.ok("PUT", "/consumers/rose/credentials/c1", {"plugins": {"key-auth": {"key": "two"}}})
    listed = await api.ok("GET", "/consumers/jack/credentials")
    assert [item["key"] for item in listed["list"]] == ["/apisix/consumers/jack/credentials/c1"]
    consumers = await api.ok("GET", "/consumers")
    assert [item["value"]["username"] for item in consumers["list"]] == ["jack", "rose"]
    await api.ok("DELETE", "/consumers/jack")
    assert await api.refused(404, "GET", path) == "Key not found"
    assert (await api.ok("GET", "/consumers/rose/credentials"))["total"] == 1


async def test_mistakes_are_told(api: Admin) -> None:
    await api.ok("PUT", "/consumers", {"username": "there"})
    assert await api.refused(400, "PUT", "/consumers/jack", {"username": "rose"}) == "wrong username"
    text = 'failed to check the configuration of plugin key-auth err: property "key" is required'
    assert await api.refused(400, "PUT", "/consumers", {"username": "x", "plugins": {"key-auth": {}}}) == text
    missing = "failed to fetch consumer group info by consumer group id [g], response code: 404"
    assert await api.refused(400, "PUT", "/consumers", {"username": "x", "group_id": "g"}) == missing
    text = "only supports auth type plugins in consumer credential"
    assert text in await api.refused(400, "PUT", "/consumers/there/credentials/c", {"plugins": {"echo": {"body": "x"}}})


async def test_no_two_say_the_same_key(api: Admin) -> None:
    await api.ok("PUT", "/consumers", keyed("bob", "one"))
    await api.ok("PUT", "/consumers", {"username": "alex"})
    await api.ok("PUT", "/consumers/alex/credentials/c1", {"plugins": {"key-auth": {"key": "two"}}})
    first = "duplicate key of plugin key-auth found with consumer: bob"
    second = "duplicate key of plugin key-auth found with credential: c1 of consumer: alex"
    assert await api.refused(400, "PUT", "/consumers", keyed("eve", "one")) == first
    assert await api.refused(400, "PUT", "/consumers", keyed("eve", "two")) == second
    credential = {"plugins": {"key-auth": {"key": "one"}}}
    assert await api.refused(400, "PUT", "/consumers/alex/credentials/c2", credential) == first
    # What it says itself, and what another plugin is told, is no second one.
    await api.ok("PUT", "/consumers", keyed("bob", "one", desc="again"))
    await api.ok("PUT", "/consumers", {"username": "eve", "plugins": {"jwt-auth": {"key": "one", "secret": "s" * 32}}})
    # A key is free again when nobody has it.
    await api.ok("PUT", "/consumers", keyed("bob", "three"))
    await api.ok("PUT", "/consumers/alex/credentials/c2", credential)
    await api.ok("DELETE", "/consumers/alex")
    await api.ok("PUT", "/consumers", keyed("dan", "two"))


async def test_of_many_at_once_one_gets_the_key(api: Admin) -> None:
    answers = await asyncio.gather(*(api.call("PUT", "/consumers", keyed(f"u{number}", "same")) for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, *[400] * 7]


async def test_a_group_stays_while_somebody_names_it(api: Admin) -> None:
    assert (await api.call("PUT", "/consumer_groups/gold", {"plugins": {}, "name": "Gold"})).status_code == 201
    await api.ok("PATCH", "/consumer_groups/gold", {"plugins": {"echo": {"body": "x"}}})
    await api.ok("PUT", "/consumers", {"username": "jack", "group_id": "gold"})
    text = "can not delete this consumer group, consumer [jack] is still using it now"
    assert await api.refused(400, "DELETE", "/consumer_groups/gold") == text
    await api.ok("PUT", "/consumers", {"username": "jack"})
    await api.ok("DELETE", "/consumer_groups/gold")


async def test_schemas_of_what_consumers_say(api: Admin) -> None:
    schema = await api.ok("GET", "/plugins/key-auth?schema_type=consumer")
    assert schema["required"] == ["key"]
    assert (await api.ok("GET", "/schema/consumer"))["required"] == ["username"]
    assert "group_id" in (await api.ok("GET", "/schema/consumer"))["properties"]
