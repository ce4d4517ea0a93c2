"""What a plugin's call names: an upstream by id or by name, the one that routes use, as of now."""

from __future__ import annotations

import pytest

from tests.support.config import Config


@pytest.fixture
def config() -> Config:
    config = Config()
    config.put("upstreams", "1", {"name": "auth", "nodes": {"one.test": 1}})
    config.put("upstreams", "2", {"name": "auth", "nodes": {"two.test": 1}})
    config.put("upstreams", "3", {"nodes": {"three.test": 1}})
    config.put("upstreams", "auth-2", {"nodes": {"resting.test": 0}})
    config.put("routes", "r", {"uri": "/", "upstream_id": "1"})
    return config


def asked(config: Config, name: str) -> bytes | None:
    upstream = config.commit().find_upstream(name)
    node = upstream.picker.pick() if upstream else None
    return node.authority if node else None


@pytest.mark.parametrize(
    ("name", "authority"),
    [("3", b"three.test"), ("auth", b"one.test"), ("2", b"two.test"), ("nobody", None), ("", None), ("auth-2", None)],
)
def test_an_id_goes_before_a_name_and_the_smallest_id_counts(config: Config, name: str, authority: bytes | None) -> None:
    assert asked(config, name) == authority


def test_it_is_the_upstream_that_routes_use(config: Config) -> None:
    snapshot = config.commit()
    assert snapshot.find_upstream("auth") is snapshot.routes["r"].upstream


def test_an_id_shadows_a_name(config: Config) -> None:
    config.put("upstreams", "auth", {"nodes": {"four.test": 1}})
    assert asked(config, "auth") == b"four.test"


def test_changes_are_followed(config: Config) -> None:
    snapshot = config.commit()
    config.put("upstreams", "1", {"name": "renamed", "nodes": {"new.test": 1}})
    config.delete("upstreams", "3")
    assert [asked(config, name) for name in ("auth", "renamed", "3")] == [b"two.test", b"new.test", None]
    config.delete("upstreams", "2")
    config.commit()
    assert snapshot.find_upstream("auth") is None
