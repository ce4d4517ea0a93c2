"""Store URLs: what they open, and what is said about the others."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.store.etcd import EtcdStore
from shared.store.sqlite import SqliteStore
from shared.store.url import open_store


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/waspgate/store.db", "/var/lib/waspgate/store.db"),
        ("sqlite:///./data/store.db", "data/store.db"),
        ("sqlite:///../store.db", "../store.db"),
        ("sqlite:///tmp/a%20b.db", "/tmp/a b.db"),
    ],
)
def test_sqlite_urls_name_a_file(url: str, path: str) -> None:
    store = open_store(url)
    assert isinstance(store, SqliteStore)
    assert repr(store) == f"<SqliteStore {path}>"


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("etcd://127.0.0.1:2379", "127.0.0.1:2379"),
        ("etcd://one,two:4001/", "one:2379,two:4001"),
        ("etcd://user:p%40ss@[::1]:2379", "[::1]:2379"),
        ("etcds://one:1", "one:1"),
    ],
)
def test_etcd_urls_name_endpoints(url: str, endpoints: str) -> None:
    store = open_store(url)
    assert isinstance(store, EtcdStore)
    assert repr(store) == f"<EtcdStore {endpoints}>"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "a store URL looks like"),
        ("/var/lib/store.db", "a store URL looks like"),
        ("sqlite:/store.db", "a store URL looks like"),
        ("redis://127.0.0.1", "unknown kind of store 'redis', expected sqlite, etcd, etcds or yaml"),
        ("sqlite://store.db", "three slashes before its path, got a host 'store.db'"),
        ("sqlite:///", "names a file"),
        ("sqlite:////", "names a file"),
        ("sqlite:///data/", "names a file"),
        ("sqlite:///a%00b", "names a file"),
        ("sqlite:///store.db?mode=ro", "takes no options, got 'mode'"),
        ("etcd://", "an etcd endpoint is HOST:PORT, got ''"),
        ("etcd://one:1,", "an etcd endpoint is HOST:PORT, got ''"),
        ("etcd://one:x", "an etcd endpoint is HOST:PORT, got 'one:x'"),
        ("etcd://one:0", "an etcd endpoint is HOST:PORT, got 'one:0'"),
        ("etcd://one:65536", "an etcd endpoint is HOST:PORT, got 'one:65536'"),
        ("etcd://::1:2379", "an etcd endpoint is HOST:PORT"),
        ("etcd://one:1/prefix", "takes no path, got '/prefix'"),
        ("etcd://user@one:1", "needs a password too"),
        ("etcd://:word@one:1", "needs a password too"),
        ("etcd://one:1?ca=x", "the option 'ca' is for TLS: write etcds://"),
        ("etcds://one:1?verify=no", "unknown option 'verify' in an etcd URL, expected ca, cert, key"),
        ("etcds://one:1?cert=x", "come together"),
        ("etcds://one:1?ca=/missing.pem", "/missing.pem of option 'ca' cannot be read: No such file"),
    ],
)
def test_a_wrong_url_is_explained(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        open_store(url)


def test_no_message_shows_a_password() -> None:
    for url in ("etcd://user:geheim@", "etcd://user:geheim@one:x", "etcd//user:geheim@one:1", "other://user:geheim@one:1"):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (which one is not the point)
            open_store(url)
        assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(open_store("etcd://user:geheim@one:1"))


@given(st.text(), st.sampled_from(["", "sqlite://", "sqlite:///", "etcd://", "etcds://"]))
def test_any_text_opens_or_is_a_value_error(text: str, scheme: str) -> None:
    with suppress(ValueError):
        open_store(scheme + text)
