"""Certificates in the snapshot: which name finds which, and what stays the same object."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.config.compiler import Compiler
from data_plane.config.snapshot import Snapshot, Ssl
from data_plane.routing.server_names import ServerNames
from data_plane.routing.steps import finish
from shared.keys import resource_key
from shared.server_name import parse_server_name
from shared.store.contract import Batch, Entry, Event, Listing
from tests.support.config import document
from tests.support.tls import Authority, ssl_document

PAIR, OTHER = Authority().issue("one.test"), Authority().issue("two.test")


class Written:
    """A compiler, and what is written to it."""

    def __init__(self) -> None:
        self.compiler = Compiler()
        finish(self.compiler.load(Listing(1, ())))
        self.revision = 1

    def put(self, ssl_id: str, value: dict[str, Any] | None) -> Snapshot:
        self.revision += 1
        key = resource_key("ssls", ssl_id)
        entry = None if value is None else Entry(key, document(value), self.revision, self.revision)
        finish(self.compiler.apply(Batch(self.revision, (Event(key, self.revision, entry),))))
        assert not self.compiler.begin()
        return finish(self.compiler.commit({}))


def names(*texts: str) -> ServerNames[str]:
    return ServerNames([((parse_server_name(text),), text) for text in texts])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"a.test", "A.test."),
        (b"b.test", "*.test"),
        (b"x.a.test", "*.a.test"),
        (b"y.x.a.test", "*"),
        (b"test", "*"),
        (b"", "*"),
        (b".test", "*.test"),
    ],
)
def test_exact_before_wildcard_before_every_name(name: bytes, found: str) -> None:
    assert names("*", "*.test", "A.test.", "*.a.test").match(name) == found


def test_without_one_for_every_name_the_rest_finds_nothing() -> None:
    assert names("a.test", "*.a.test").match(b"") is None
    assert names("a.test", "*.a.test").match(b"a") is None


def test_of_several_with_one_name_the_first_has_it() -> None:
    table = ServerNames([((parse_server_name("a.test"),), 1), ((parse_server_name("a.test"), parse_server_name("b.test")), 2)])
    assert (table.match(b"a.test"), table.match(b"b.test")) == (1, 2)


@pytest.mark.parametrize(
    "text", ["", "a..test", "*a.test", "a.*.test", "*.*.test", "a:443", "[::1]", "ä.test", "a" * 64, "a." * 130]
)
def test_a_name_that_nobody_can_ask_for_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid server name"):
        parse_server_name(text)


@given(st.from_regex(r"\A(\*\.)?[a-z0-9-]{1,20}(\.[a-z0-9-]{1,20}){0,3}\Z"))
def test_any_name_finds_itself(text: str) -> None:
    name = text.replace("*", "x", 1) if text.startswith("*.") else text
    assert names(text).match(name.encode()) == text


def find(snapshot: Snapshot, name: bytes) -> Ssl | None:
    return snapshot.ssls.names.match(name)


def test_what_a_change_does_not_touch_stays_the_same_object() -> None:
    written = Written()
    before = find(written.put("1", ssl_document(PAIR, "one.test")), b"one.test")
    assert before is not None
    snapshot = written.put("2", ssl_document(OTHER, "two.test"))
    assert find(snapshot, b"one.test") is before
    # Only its names have changed: sessions may be resumed.
    snapshot = written.put("1", ssl_document(PAIR, "one.test", "uno.test"))
    assert find(snapshot, b"uno.test") is before
    snapshot = written.put("1", ssl_document(PAIR, "one.test", ssl_protocols=["TLSv1.3"]))
    assert find(snapshot, b"one.test") is not before
    assert find(snapshot, b"uno.test") is None


def test_the_table_of_a_snapshot_never_changes() -> None:
    written = Written()
    old = written.put("1", ssl_document(PAIR, "one.test"))
    new = written.put("1", None)
    assert find(old, b"one.test") is not None
    assert find(new, b"one.test") is None
    assert new.ssls.all == ()


def test_disabled_objects_and_those_for_upstreams_are_not_shown() -> None:
    written = Written()
    assert find(written.put("1", ssl_document(PAIR, "one.test", status=0)), b"one.test") is None
    client = {"type": "client", "cert": PAIR.cert, "key": PAIR.key}
    assert written.put("2", client).ssls.all == ()


def test_a_guard_is_known_of() -> None:
    written = Written()
    assert not written.put("1", ssl_document(PAIR, "one.test")).ssls.guards
    guarded = written.put("2", ssl_document(OTHER, "two.test", client={"ca": Authority().pem, "depth": 3}))
    assert guarded.ssls.guards
    found = find(guarded, b"two.test")
    assert found is not None
    assert found.client is not None
    assert (found.client.depth, found.client.skip) == (3, ())
    assert not written.put("2", None).ssls.guards


def test_a_broken_object_leaves_the_last_good_one() -> None:
    written = Written()
    before = find(written.put("1", ssl_document(PAIR, "one.test")), b"one.test")
    after = written.put("1", {**ssl_document(PAIR, "one.test"), "key": OTHER.key})
    assert find(after, b"one.test") is before
    problem = written.compiler.problems[resource_key("ssls", "1")]
    assert "the key does not belong to the certificate" in problem
    assert "PRIVATE" not in problem


def test_a_key_does_not_show() -> None:
    written = Written()
    assert "PRIVATE" not in repr(find(written.put("1", ssl_document(PAIR, "one.test")), b"one.test"))
