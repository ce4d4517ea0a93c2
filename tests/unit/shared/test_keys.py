"""Keys: built and parsed in APISIX's layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.keys import (
    CHUNK_PREFIX,
    CONFIG_PREFIX,
    IN_TWO_PARTS,
    KINDS,
    MODULE_PREFIX,
    STORE_IDENTITY,
    UPLOAD_PREFIX,
    Kind,
    ResourceKey,
    chunk_key,
    generated_id,
    kind_prefix,
    parse_resource_key,
    resource_key,
)


def test_the_layout_is_apisixs() -> None:
    assert resource_key("routes", "1") == "/apisix/routes/1"
    assert kind_prefix("plugin_configs") == "/apisix/plugin_configs/"

    assert resource_key("secrets", "vault/1") == "/apisix/secrets/vault/1"


@given(st.sampled_from(KINDS), st.text(min_size=1).filter(lambda text: "/" not in text), st.sampled_from("ab"))
def test_what_is_built_is_parsed(kind: Kind, resource_id: str, owner: str) -> None:
    resource_id = f"{owner}/{resource_id}" if kind in IN_TWO_PARTS else resource_id
    assert parse_resource_key(resource_key(kind, resource_id)) == ResourceKey(kind, resource_id)


@given(st.text())
def test_any_text_is_parsed_or_none(text: str) -> None:
    for key in (text, CONFIG_PREFIX + text, CONFIG_PREFIX + "routes/" + text, CONFIG_PREFIX + "secrets/" + text):
        parsed = parse_resource_key(key)
        assert parsed is None or resource_key(parsed.kind, parsed.id) == key


@pytest.mark.parametrize(
    "key",
    [
        "/apisix/routes/",
        "/apisix/routes",
        "/apisix/consumers/a/credentials",
        "/apisix/consumers/a/other/b",
        "/apisix/plugins",
        "/apisix/secrets/vault",
        "/other/routes/1",
        "",
    ],
)
def test_what_is_no_resource_of_ours_is_none(key: str) -> None:
    assert parse_resource_key(key) is None


@pytest.mark.parametrize("resource_id", ["", "a/b"])
def test_an_id_that_would_leave_its_place_is_refused(resource_id: str) -> None:
    with pytest.raises(ValueError, match="without '/'"):
        resource_key("routes", resource_id)


@pytest.mark.parametrize("resource_id", ["", "vault", "vault/", "/1", "vault/1/2"])
def test_an_id_of_two_parts_has_both(resource_id: str) -> None:
    with pytest.raises(ValueError, match="two non-empty parts"):
        resource_key("secrets", resource_id)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown kind of resource 'route', expected one of routes, services"):
        resource_key("route", "1")  # type: ignore[arg-type]


def test_generated_ids_sort_by_revision() -> None:
    assert generated_id(42) == "00000000000000000042"
    assert sorted(map(generated_id, (100, 9, 1))) == [generated_id(1), generated_id(9), generated_id(100)]


def test_prefixes_keep_modules_and_configuration_apart() -> None:
    prefixes = (CONFIG_PREFIX, MODULE_PREFIX, UPLOAD_PREFIX, CHUNK_PREFIX, STORE_IDENTITY)
    assert not [(one, other) for one in prefixes for other in prefixes if one != other and one.startswith(other)]
    assert chunk_key("ab", 10) > chunk_key("ab", 9)
