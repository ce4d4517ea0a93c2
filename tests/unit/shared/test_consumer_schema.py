"""What consumers, credentials and groups may say."""

from __future__ import annotations

from typing import Any

import pytest

from shared.keys import Kind
from shared.schema.consumer import AuthPart, ConsumerSpec
from shared.schema.errors import SchemaError
from shared.schema.resources import RESOURCES, validate

MISTAKES: list[tuple[Kind, dict[str, Any], str, str]] = [
    ("consumers", {}, "$", 'property "username" is required'),
    ("consumers", {"username": "a.b"}, "$.username", "failed to match pattern"),
    ("consumers", {"username": "a" * 257}, "$.username", "string too long, expected at most 256, got 257"),
    ("consumers", {"username": "x", "plugins": {"key-auth": {}}}, '$.plugins["key-auth"]', 'property "key" is required'),
    ("consumers", {"username": "x", "plugins": {"key-auth": {"key": 5}}}, '$.plugins["key-auth"].key', "expected string"),
    ("consumers", {"username": "x", "plugins": {"key-auth": {"key": ""}}}, '$.plugins["key-auth"].key', "string too short"),
    ("consumers", {"username": "x", "plugins": {"key-auth": {"key": "k", "kee": 1}}}, "$.plugins", 'did you mean "key"?'),
    ("consumers", {"username": "x", "plugins": {"key-auth": 5}}, '$.plugins["key-auth"]', "invalid plugin conf 5"),
    ("consumers", {"username": "x", "plugins": {"multi-auth": {}}}, '$.plugins["multi-auth"]', "is told nothing by consumers"),
    ("consumers", {"username": "x", "plugins": {"no-such": {}}}, '$.plugins["no-such"]', "unknown plugin [no-such]"),
    ("consumers", {"username": "x", "plugins": {"echo": {"headers": 5}}}, "$.plugins.echo", "echo"),
    ("consumers", {"username": "x", "plugins": {"script": {}}}, "$.plugins.script", "Lua"),
    (
        "consumers",
        {"username": "x", "plugins": {"basic-auth": {"username": "a:b", "password": "p"}}},
        '$.plugins["basic-auth"]',
        "a colon ends the name",
    ),
    ("consumer_groups", {}, "$", 'property "plugins" is required'),
    ("consumer_groups", {"plugins": {"key-auth": {"key": "k"}}}, '$.plugins["key-auth"]', "a group has none of its own"),
    ("consumer_groups", {"plugins": {"no-such": {"conf": "x"}}}, '$.plugins["no-such"]', "unknown plugin [no-such]"),
    ("credentials", {"plugins": {"echo": {"body": "x"}}}, "$.plugins.echo", "only supports auth type plugins"),
    (
        "credentials",
        {"plugins": {"key-auth": {"key": "k"}, "basic-auth": {"username": "u", "password": "p"}}},
        "$.plugins",
        "expect object to have at most 1 properties",
    ),
]


@pytest.mark.parametrize(("kind", "document", "path", "text"), MISTAKES)
def test_mistakes_are_told_with_their_place(kind: Kind, document: dict[str, Any], path: str, text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        validate(RESOURCES[kind].model, document)
    problem = caught.value.problems[0]
    assert problem.path.startswith(path)
    assert text in problem.text


def test_no_key_is_in_what_is_shown_of_a_consumer() -> None:
    document = {"username": "x", "plugins": {"key-auth": {"key": "hush"}}}
    spec = validate(ConsumerSpec, document)
    part = spec.plugins["key-auth"]
    assert isinstance(part, AuthPart)
    assert part.key == "hush"
    assert "hush" not in repr(spec)
