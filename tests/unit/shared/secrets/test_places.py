"""Where secrets are: what is sealed on its way to the store, opened on its way back, and what references stand for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.keys import history_key
from shared.schema.document import decode, encode
from shared.secrets.keyring import MARK, Keyring, NoKeysError, SealError
from shared.secrets.places import map_references, map_secrets
from shared.secrets.references import IN_JSON, Managed, Variable, has_references, map_texts, parse_reference
from shared.secrets.sealed_store import open_value, seal_value

KEYRING = Keyring([bytes(32)])
CSRF = {"key": "csrf-secret", "name": "token"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("key", "document", "secrets"),
    [
        ("/apisix/ssls/1", {"cert": "c", "key": "k1", "keys": ["k2", "k3"]}, ["k1", "k2", "k3"]),
        ("/apisix/upstreams/1", {"tls": {"client_cert": "c", "client_key": "k"}}, ["k"]),
        (
            "/apisix/routes/1",
            {"uri": "/", "upstream": {"tls": {"client_key": "k"}}, "plugins": {"csrf": CSRF}},
            ["k", "csrf-secret"],
        ),
        ("/apisix/global_rules/1", {"plugins": {"csrf": CSRF, "cors": {}}}, ["csrf-secret"]),
        ("/apisix/secrets/vault/1", {"uri": "http://v", "prefix": "kv", "token": "t"}, ["t"]),
        ("/apisix/routes/2", {"uri": "/", "plugins": {"some-wasm": {"conf": "x"}}}, []),
        ("/apisix/routes/3", {"uri": "/", "plugins": {"csrf": {"key": "$env://KEY"}}}, []),
    ],
)
def test_secrets_are_sealed_and_nothing_else(key: str, document: dict[str, Any], secrets: list[str]) -> None:
    value = encode(document)
    stored = seal_value(KEYRING, key, value)
    for secret in secrets:
        assert encode(secret) not in stored
    assert stored.count(MARK) == len(secrets)
    assert open_value(KEYRING, key, stored) == value
    assert (stored == value) is (not secrets)
    # What is sealed is sealed for its place.
    if secrets:
        with pytest.raises(SealError, match="was changed, or encrypted for another place"):
            open_value(KEYRING, f"{key}2", stored)
        with pytest.raises(NoKeysError):
            seal_value(Keyring(), key, value)


def test_what_cannot_be_opened_says_where() -> None:
    stored = seal_value(KEYRING, "/apisix/ssls/1", encode({"keys": ["a"]}))
    with pytest.raises(SealError, match=r"^keys\.0 is encrypted with the key"):
        open_value(Keyring(), "/apisix/ssls/1", stored)


@pytest.mark.parametrize("value", [b"init_dir", b"[]", b"{}", b"\xff", b'"text"'])
def test_what_is_no_resource_passes(value: bytes) -> None:
    for key in ("/apisix/routes/1", "/waspgate/modules/x", "/apisix/other/1"):
        assert seal_value(KEYRING, key, value) == value
        assert open_value(KEYRING, key, value) == value


@pytest.mark.parametrize("key", [history_key("routes", "1"), "/waspgate/batches/1-a/000000"])
def test_what_holds_resources_of_all_kinds_is_sealed_whole(key: str) -> None:
    value = encode({"deleted": False, "versions": [{"revision": 1, "value": {"plugins": {"csrf": CSRF}}}]})
    stored = seal_value(KEYRING, key, value)
    assert b"csrf-secret" not in stored
    assert open_value(KEYRING, key, stored) == value
    # Of a gateway without keys, or of before there were any.
    assert seal_value(Keyring(), key, value) == value
    assert open_value(KEYRING, key, value) == value


@settings(max_examples=30)
@given(JSON)
def test_any_document_of_a_resource_comes_back(document: object) -> None:
    value = encode({"plugins": {"csrf": document}, "key": document})
    for key in ("/apisix/routes/1", "/apisix/ssls/1"):
        assert open_value(KEYRING, key, seal_value(KEYRING, key, value)) == value


def test_what_has_no_secret_is_not_copied() -> None:
    document = {"uri": "/", "plugins": {"cors": {}}}
    assert map_secrets("routes", "1", document, lambda _text, _path: "changed") is document
    assert map_references("routes", document, lambda _: "changed") is document


@settings(max_examples=30)
@given(JSON)
def test_texts_are_changed_and_nothing_else(value: object) -> None:
    assert map_texts(value, "", lambda text, _: text) is value
    assert map_texts(map_texts(value, "", lambda text, _: text + "!"), "", lambda text, _: text[:-1]) == value


@pytest.mark.parametrize(
    ("kind", "document", "meant"),
    [
        (
            "routes",
            {"desc": "$env://A", "plugins": {"x": {"conf": {"key": "$env://A"}}}},
            {"plugins": {"x": {"conf": {"key": "*"}}}},
        ),
        ("ssls", {"cert": "$secret://vault/1/a/b", "keys": ["$ENV://A", "pem"]}, {"cert": "*", "keys": ["*", "pem"]}),
        ("plugin_metadata", {"log": {"x": "$env://A"}}, {"log": {"x": "*"}}),
        ("wasm_plugins", {"environment": {"A": "$env://A"}}, {"environment": {"A": "*"}}),
        ("routes", {"plugins": {"x": {"conf": "not $env://A whole"}}}, {}),
    ],
)
def test_references_are_whole_texts_at_their_places(kind: Any, document: dict[str, Any], meant: dict[str, Any]) -> None:  # noqa: ANN401
    assert map_references(kind, document, lambda _: "*") == {**document, **meant}
    assert bool(meant) <= bool(IN_JSON.search(encode(document)))


def test_references_are_seen_in_json_of_others() -> None:
    written = rb'{"key":"$secret:\/\/vault\/1\/a\/b"}'
    assert IN_JSON.search(written)
    assert has_references(decode(written))
    assert not has_references({"a": ["b", {"c": "$envy://"}], "$env://": 1})


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("$env://NAME", Variable("NAME", None)),
        ("$ENV://NAME/key", Variable("NAME", "key")),
        ("$secret://vault/1/john/key", Managed("vault/1", "john", "key")),
        ("$secret://vault/1/team/john/key", Managed("vault/1", "team/john", "key")),
    ],
)
def test_references_are_read(text: str, reference: Variable | Managed) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    "text", ["$env://", "$env:///a", "$secret://vault", "$secret://vault/1/key", "$secret://vault/1/a b/c"]
)
def test_what_is_no_reference_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected \$(env://NAME|secret://vault/ID/PATH/KEY)"):
        parse_reference(text)


def test_a_path_stays_below_its_prefix() -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_reference("$secret://vault/1/../sys/key")
