"""proxy-mirror: what is copied, as a host records it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.plugin.builtin import proxy_mirror
from shared.plugin.host import Fetched
from tests.support.native import Native, refusal

HOST = "http://mirror.test:81"


class Mirrored:
    """A route with a mirror."""

    def __init__(self, fails: bool = False, **conf: Any) -> None:  # noqa: ANN401 - any configuration
        answer = None if fails else lambda method, url: Fetched(200, (), b"")
        self.native = Native({"proxy-mirror": {"host": HOST, **conf}}, answer=answer)

    def copies(self) -> list[tuple[str, str, bytes]]:
        """Sent now: (method, URL, body)."""

        async def send() -> None:
            while self.native.host.work:
                await self.native.host.work.pop(0)[1]

        asyncio.run(send())
        calls = [(method, url, body) for method, url, _, body in self.native.host.calls]
        self.native.host.calls.clear()
        return calls


@pytest.mark.parametrize(
    ("conf", "url"),
    [
        ({}, f"{HOST}/p?a=1"),
        ({"path": "/m"}, f"{HOST}/m?a=1"),
        ({"path": "/m", "path_concat_mode": "prefix"}, f"{HOST}/m/p?a=1"),
        ({"path_concat_mode": "prefix"}, f"{HOST}/p?a=1"),
    ],
    ids=str,
)
def test_a_copy_goes_where_the_configuration_says(conf: dict[str, Any], url: str) -> None:
    mirrored = Mirrored(**conf)
    mirrored.native.passed(target="/p?a=1")
    assert mirrored.copies() == [("GET", url, b"")]


def test_the_request_does_not_know() -> None:
    mirrored = Mirrored()
    mirrored.native.request()
    assert not mirrored.native.host.work
    assert mirrored.native.response(b"x").status == 200
    assert len(mirrored.native.host.work) == 1
    mirrored.copies()


def test_a_copy_is_as_the_upstream_got_the_request() -> None:
    native = Native(
        {"proxy-mirror": {"host": HOST}, "proxy-rewrite": {"uri": "/new", "headers": {"set": {"X-By": "gateway"}}}},
        answer=lambda method, url: Fetched(200, (), b""),
    )
    native.request("/old", "X-A: 1", method="POST", body=b"body")
    native.response(b"x")
    asyncio.run(native.host.work[0][1])
    ((method, url, headers, body),) = native.host.calls
    assert (method, url, body) == ("POST", f"{HOST}/new", b"body")
    assert {("X-A", "1"), ("X-By", "gateway")} <= set(headers)


def test_a_body_that_comes_in_pieces_is_copied_when_all_of_it_came() -> None:
    mirrored = Mirrored()
    native = mirrored.native
    for pieces, whole in (((b"ab", b"cd"), True), ((b"ab",), False)):
        native.request("/p", "Content-Length: 4", method="POST", body=pieces[0], eos=False)
        for piece in pieces[1:]:
            native.exchange.request_body(piece, True)
        native.response(b"x")
        assert mirrored.copies() == ([("POST", f"{HOST}/p", b"abcd")] if whole else [])


def test_what_is_too_long_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_mirror, "BODY_BYTES", 4)
    mirrored = Mirrored()
    for body, field in ((b"12345", "Content-Length: 5"), (b"12345", "Transfer-Encoding: chunked")):
        mirrored.native.request("/p", field, method="POST", body=body)
        mirrored.native.response(b"x")
        assert mirrored.copies() == []
    mirrored.native.request("/p", "Transfer-Encoding: chunked", method="POST", body=b"1234")
    mirrored.native.response(b"x")
    assert mirrored.copies() == [("POST", f"{HOST}/p", b"1234")]


def test_only_so_many_copies_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_mirror, "UNDER_WAY", 2)
    mirrored = Mirrored()
    for _ in range(4):
        mirrored.native.passed()
    assert len(mirrored.copies()) == 2
    mirrored.native.passed()
    assert len(mirrored.copies()) == 1


def test_only_so_many_bytes_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_mirror, "BYTES_UNDER_WAY", 8)
    mirrored = Mirrored()
    for _ in range(3):
        mirrored.native.request(method="POST", body=b"1234")
        mirrored.native.response(b"x")
    assert len(mirrored.copies()) == 2


def test_what_went_to_no_upstream_is_not_copied() -> None:
    native = Native({"proxy-mirror": {"host": HOST}, "ip-restriction": {"blacklist": ["10.0.0.1"]}})
    assert native.reply().status == 403
    assert not native.host.work


def test_a_mirror_that_fails_is_told_of_once() -> None:
    mirrored = Mirrored(fails=True)
    for _ in range(3):
        assert mirrored.native.passed().status == 200
        mirrored.copies()
    assert [name for name, _ in mirrored.native.host.failures] == ["proxy-mirror"]


@pytest.mark.parametrize(("drawn", "copied"), [(0.29, 1), (0.31, 0)])
def test_a_part_of_the_requests(monkeypatch: pytest.MonkeyPatch, drawn: float, copied: int) -> None:
    monkeypatch.setattr("random.random", lambda: drawn)
    mirrored = Mirrored(sample_ratio=0.3)
    mirrored.native.passed()
    assert len(mirrored.copies()) == copied


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({}, 'property "host" is required'),
        ({"host": "mirror.test"}, "expected http://"),
        ({"host": "ftp://a"}, "expected http://"),
        ({"host": "grpc://a"}, "cannot be mirrored"),
        ({"host": "http://a/path"}, "invalid address"),
        ({"host": "http://user@a"}, "invalid address"),
        ({"host": "http://a:99999"}, "invalid port"),
        ({"host": "http://a", "path": "m"}, "expected a path"),
        ({"host": "http://a", "path": "/m?x"}, "expected a path"),
        ({"host": "http://a", "path_concat_mode": "suffix"}, "path_concat_mode"),
        ({"host": "http://a", "sample_ratio": 0}, "sample_ratio"),
        ({"host": "http://a", "sample_ratio": 1.1}, "sample_ratio"),
    ],
    ids=str,
)
def test_what_mirrors_nothing_is_refused(conf: dict[str, Any], reason: str) -> None:
    assert reason in refusal("proxy-mirror", conf)
