"""proxy-cache: what is kept and what is answered, at times that the test tells."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.exchange.messages import ResponseHead
from shared.limits.rows import prefix_of
from shared.plugin.builtin import proxy_cache
from shared.plugin.builtin.caching import directives, lifetime, seconds
from shared.plugin.builtin.proxy_cache import ProxyCache
from shared.plugin.consumer import Consumer
from shared.plugin.responses import ZoneFailed
from tests.support.native import Message, Native, refusal
from tests.support.plugin_host import MemoryZone

MEMORY = {"cache_strategy": "memory", "cache_zone": "memory_cache"}
NOW = 1_800_000_000.0


class Cached:
    """A route with a cache. An upstream says which of its answers this is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, conf: dict[str, Any] | None = None, **plugins: Any) -> None:  # noqa: ANN401 - configurations
        self.now = NOW
        monkeypatch.setattr(ProxyCache, "clock", staticmethod(lambda: self.now))
        self.native = Native({"proxy-cache": MEMORY if conf is None else conf, **plugins})
        self.asked = 0

    def get(
        self,
        target: str = "/p",
        *fields: str,
        upstream: tuple[str, ...] = (),
        status: int = 200,
        method: str = "GET",
        **more: Any,  # noqa: ANN401 - as `Native.request`
    ) -> Message:
        if self.native.request(target, *fields, method=method, **more) is None:
            return self.native.answer
        self.asked += 1
        body = b"" if method == "HEAD" else b"answer %d" % self.asked
        return self.native.response(body, status=status, fields=upstream)

    def said(self, *target: str, **more: Any) -> tuple[str | None, bytes]:  # noqa: ANN401 - as `get`
        message = self.get(*target, **more)
        return message["apisix-cache-status"], message.body

    def labels(self, *target: str, times: int = 2, **more: Any) -> list[str | None]:  # noqa: ANN401 - as `get`
        return [self.said(*target, **more)[0] for _ in range(times)]


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> Cached:
    return Cached(monkeypatch)


def test_a_response_is_kept_for_its_time(cached: Cached) -> None:
    assert cached.said(upstream=("X-A: 1",)) == ("MISS", b"answer 1")
    cached.now += 299.5
    again = cached.get()
    assert (again["apisix-cache-status"], again.body, again["x-a"], again["age"]) == ("HIT", b"answer 1", "1", "299")
    assert again["content-length"] == "8"
    cached.now += 1
    assert cached.said() == ("EXPIRED", b"answer 2")
    assert cached.said() == ("HIT", b"answer 2")


def test_a_response_in_pieces_is_kept_in_full(cached: Cached) -> None:
    cached.native.request()
    cached.native.response(b"one ", b"two ", b"three", chunked=True)
    assert cached.said() == ("HIT", b"one two three")


def test_a_response_that_breaks_off_is_not_kept(cached: Cached) -> None:
    cached.native.request()
    cached.native.exchange.upstream_response(_head(10), b"hal", False)
    cached.native.exchange.upstream_lost("upstream_closed")
    assert cached.said()[0] == "MISS"


def _head(length: int) -> ResponseHead:
    return ResponseHead(200, b"HTTP/1.1 200 OK\r\n", length, b"Content-Length: %d\r\n" % length, True)


@pytest.mark.parametrize(
    ("status", "label"), [(200, "HIT"), (301, "HIT"), (404, "HIT"), (201, "MISS"), (302, "MISS"), (500, "MISS")]
)
def test_only_some_statuses_are_kept(cached: Cached, status: int, label: str) -> None:
    assert cached.labels(status=status) == ["MISS", label]
    assert cached.get(status=status).status == status


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("/p",), ("/q",)),
        (("/p?a=1",), ("/p?a=2",)),
        (("/p",), ("/p", "Host: other.test")),
    ],
)
def test_targets_and_hosts_do_not_mix(cached: Cached, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    if len(other) > 1:
        cached.said(*one)
        request = cached.native.request
        cached.native.request = lambda target, *fields, **more: request(target, **more)  # type: ignore[method-assign]
    assert cached.labels(*one, times=1) in (["MISS"], ["HIT"])
    if len(other) == 1:
        assert cached.labels(*other) == ["MISS", "HIT"]


def test_schemes_routes_and_consumers_do_not_mix() -> None:
    def key(conf: dict[str, Any], scheme: str = "http", consumer: str | None = None, owner: str = "route/1") -> bytes:
        native = Native({"proxy-cache": {**MEMORY, **conf}}, scheme=scheme)
        native.request()
        (binding,) = native.route.bindings
        plugin: ProxyCache = binding.bound.plugin  # type: ignore[union-attr, assignment]
        plugin._prefix = prefix_of(plugin.name, owner)
        request = native.exchange.request  # type: ignore[attr-defined]
        if consumer is not None:
            request.attach_consumer(Consumer(consumer))
        return plugin._key(request, "GET", b"")

    keys = [key({}), key({}, "https"), key({}, consumer="a"), key({}, consumer="b"), key({}, owner="route/2")]
    assert len(set(keys)) == 5
    assert key({"consumer_isolation": False}, consumer="a") == key({"consumer_isolation": False}, consumer="b")


def test_a_head_is_answered_from_a_get_and_keeps_nothing(cached: Cached) -> None:
    assert cached.labels(method="HEAD") == ["MISS", "MISS"]
    cached.get()
    head = cached.get(method="HEAD")
    assert (head["apisix-cache-status"], head.body) == ("HIT", b"")
    assert cached.said() == ("HIT", b"answer 3")


def test_a_post_is_known_by_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = Cached(monkeypatch, {**MEMORY, "cache_method": ["GET", "POST"]})
    assert cached.labels(method="POST", body=b"one") == ["MISS", "HIT"]
    assert cached.labels(method="POST", body=b"two", times=1) == ["MISS"]
    assert cached.labels(times=1) == ["MISS"]
    assert cached.labels("/p", "Transfer-Encoding: chunked", method="POST", body=b"one") == ["BYPASS", "BYPASS"]
    assert cached.labels("/get", "Content-Length: 1", body=b"x") == ["BYPASS", "BYPASS"]


def test_methods_that_are_not_asked_for_pass(cached: Cached) -> None:
    assert cached.labels(method="POST") == ["MISS", "MISS"]


@pytest.mark.parametrize(
    ("request_fields", "response_fields", "kept"),
    [
        ((), ("Set-Cookie: a=1",), False),
        ((), ("Cache-Control: private, max-age=60",), False),
        ((), ("Cache-Control: no-store",), False),
        ((), ("cache-control: max-age=60", 'Cache-Control: no-cache="set-cookie"'), False),
        ((), ("Vary: *",), False),
        ((), ("Cache-Control: max-age=60",), True),
        (("Authorization: Basic eA==",), (), False),
        (("Authorization: Basic eA==",), ("Cache-Control: max-age=60",), False),
        (("Authorization: Basic eA==",), ("Cache-Control: public",), True),
        (("Authorization: Basic eA==",), ("Cache-Control: s-maxage=9",), True),
        (("Cookie: a=1",), (), True),
    ],
    ids=str,
)
def test_what_is_one_clients_is_not_kept_for_others(
    cached: Cached, request_fields: tuple[str, ...], response_fields: tuple[str, ...], kept: bool
) -> None:
    assert cached.labels("/p", *request_fields, upstream=response_fields) == ["MISS", "HIT" if kept else "MISS"]


def test_a_cookie_may_be_kept_where_the_configuration_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = Cached(monkeypatch, {**MEMORY, "cache_set_cookie": True})
    assert cached.labels(upstream=("Set-Cookie: a=1",)) == ["MISS", "HIT"]


def test_a_response_is_kept_for_requests_that_it_was_chosen_by(cached: Cached) -> None:
    vary = ("Vary: Accept-Language, accept-encoding",)
    assert cached.said("/p", "Accept-Language: de", upstream=vary) == ("MISS", b"answer 1")
    assert cached.said("/p", "Accept-Language: fr", upstream=vary) == ("MISS", b"answer 2")
    assert cached.said("/p", "Accept-Language: de") == ("HIT", b"answer 1")
    assert cached.said("/p", "Accept-Language: fr") == ("HIT", b"answer 2")
    assert cached.said("/p", "Accept-Language: fr", "Accept-Encoding: gzip", upstream=vary) == ("MISS", b"answer 3")
    # An upstream that changes its mind.
    assert cached.said(upstream=("Vary: X-Other",)) == ("MISS", b"answer 4")
    assert cached.said("/p", "Accept-Language: de") == ("HIT", b"answer 4")
    assert cached.said("/p", "X-Other: 1") == ("MISS", b"answer 5")


def test_what_plugins_do_to_responses_is_done_to_kept_ones_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite = {"headers": {"set": {"X-By": "$remote_addr"}}, "status_code": 203}
    cached = Cached(monkeypatch, MEMORY, **{"request-id": {}, "response-rewrite": rewrite})
    first, second = cached.get(), cached.get()
    assert (first.status, second.status, second.body) == (203, 203, b"answer 1")
    assert second["x-by"] == "10.0.0.1"
    assert first["x-request-id"] != second["x-request-id"]
    assert len(second.all("x-request-id")) == len(second.all("x-by")) == 1


def test_what_other_plugins_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = {"count": 1, "time_window": 60, "rejected_code": 404, "rejected_msg": "too many"}
    cached = Cached(monkeypatch, MEMORY, **{"limit-count": limit})
    assert [cached.get(target).status for target in ("/a", "/b", "/b", "/a")] == [200, 404, 404, 200]
    zone = cached.native.host.zones[("memory", "memory_cache")]
    assert isinstance(zone, MemoryZone)
    assert len(zone.rows) == 1


@pytest.mark.parametrize("conf", [{"cache_bypass": ["$arg_fresh", "$http_x_fresh"]}, {"no_cache": ["$arg_fresh"]}], ids=str)
def test_requests_may_pass_the_cache_by(monkeypatch: pytest.MonkeyPatch, conf: dict[str, Any]) -> None:
    cached = Cached(monkeypatch, {**MEMORY, **conf})
    label = "BYPASS" if "cache_bypass" in conf else "MISS"
    assert cached.labels("/p?fresh=1") == [label, label if label == "BYPASS" else "MISS"]
    assert cached.labels("/p?fresh=0") == ["MISS", "HIT"]
    assert cached.labels("/p") == ["MISS", "HIT"]


CONTROLLED = {**MEMORY, "cache_control": True}


@pytest.mark.parametrize(
    ("upstream", "labels"),
    [
        ((), ["MISS", "MISS"]),
        (("Cache-Control: max-age=0",), ["MISS", "MISS"]),
        (("Cache-Control: max-age=60",), ["MISS", "HIT"]),
        (("Cache-Control: s-maxage=60, max-age=0",), ["MISS", "HIT"]),
        (("Cache-Control: max-age=wrong",), ["MISS", "MISS"]),
        (("Cache-Control: max-age=60", "Age: 60"), ["MISS", "MISS"]),
        (("Cache-Control: max-age=60", "Age: 59"), ["MISS", "HIT"]),
        ((f"Expires: {formatdate(NOW + 60, usegmt=True)}",), ["MISS", "HIT"]),
        ((f"Expires: {formatdate(NOW - 60, usegmt=True)}",), ["MISS", "MISS"]),
        (("Expires: 0",), ["MISS", "MISS"]),
    ],
    ids=str,
)
def test_responses_say_how_long_they_are_fresh(
    monkeypatch: pytest.MonkeyPatch, upstream: tuple[str, ...], labels: list[str]
) -> None:
    assert Cached(monkeypatch, CONTROLLED).labels(upstream=upstream) == labels


@pytest.mark.parametrize(
    ("said", "label", "status"),
    [
        ("no-cache", "BYPASS", 200),
        ("no-store", "BYPASS", 200),
        ("max-age=9", "STALE", 200),
        ("max-age=10", "HIT", 200),
        ("min-fresh=51", "STALE", 200),
        ("min-fresh=50", "HIT", 200),
        ("only-if-cached", "HIT", 200),
    ],
)
def test_requests_say_how_fresh_they_want_it(monkeypatch: pytest.MonkeyPatch, said: str, label: str, status: int) -> None:
    cached = Cached(monkeypatch, CONTROLLED)
    cached.get(upstream=("Cache-Control: max-age=60",))
    cached.now += 10
    answer = cached.get("/p", f"Cache-Control: {said}")
    assert (answer["apisix-cache-status"], answer.status) == (label, status)
    assert Cached(monkeypatch, CONTROLLED).get("/p", "Cache-Control: only-if-cached").status == 504


@pytest.mark.parametrize(("said", "label"), [("max-stale", "HIT"), ("max-stale=10", "HIT"), ("max-stale=9", "EXPIRED")])
def test_requests_may_take_what_is_stale(monkeypatch: pytest.MonkeyPatch, said: str, label: str) -> None:
    cached = Cached(monkeypatch, CONTROLLED)
    cached.get(upstream=("Cache-Control: max-age=60",))
    cached.now += 70
    assert cached.labels("/p", f"Cache-Control: {said}", times=1) == [label]


def test_what_other_caches_have_kept_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = Cached(monkeypatch, CONTROLLED)
    cached.get(upstream=("Cache-Control: max-age=60", "Age: 40"))
    cached.now += 19
    kept = cached.get()
    assert (kept["apisix-cache-status"], kept.all("age")) == ("HIT", ["59"])
    cached.now += 2
    assert cached.labels(times=1) == ["EXPIRED"]


def test_on_disk_a_response_may_say_how_long_it_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = Cached(monkeypatch, {"cache_ttl": 30})
    cached.get("/a", upstream=("Cache-Control: max-age=60",))
    cached.get("/b")
    cached.now += 50
    assert [cached.labels(target, times=1) for target in ("/a", "/b")] == [["HIT"], ["EXPIRED"]]


@pytest.mark.parametrize("hides", [True, False])
def test_headers_about_caches_may_be_hidden(monkeypatch: pytest.MonkeyPatch, hides: bool) -> None:
    cached = Cached(monkeypatch, {**MEMORY, "hide_cache_headers": hides})
    for _ in range(2):
        answer = cached.get(upstream=("Cache-Control: max-age=60", "Expires: Thu, 01 Jan 1970 00:00:00 GMT"))
        assert (answer["cache-control"] is None, answer["expires"] is None) == (hides, hides)


def test_a_purge_forgets_all_variants(cached: Cached) -> None:
    vary = ("Vary: Accept",)
    for accept in ("a", "b"):
        cached.get("/p", f"Accept: {accept}", upstream=vary)
    cached.get("/q")
    assert [cached.get(method="PURGE").status for _ in range(2)] == [200, 404]
    assert cached.labels("/p", "Accept: a", times=1) == ["MISS"]
    assert cached.labels("/q", times=1) == ["HIT"]


def test_what_is_too_long_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(proxy_cache.BODY_BYTES, "memory", 8)
    cached = Cached(monkeypatch)
    assert cached.labels("/short") == ["MISS", "HIT"]
    cached.asked = 10
    assert cached.labels("/long") == ["MISS", "MISS"]
    for _ in range(2):
        assert cached.native.request("/pieces") is not None
        cached.native.response(b"12345", b"6789", chunked=True)


def test_without_its_zone_requests_pass(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise ZoneFailed("no room")

    zone = cached.native.host.zones[("memory", "memory_cache")]
    for name in ("get", "put", "purge"):
        monkeypatch.setattr(zone, name, fails)
    assert cached.labels() == ["MISS", "MISS"]
    assert cached.get(method="PURGE").status == 503
    assert len(cached.native.host.failures) == 1


@given(st.text())
def test_directives_of_any_text(text: str) -> None:
    for name, value in directives([text]).items():
        assert name == name.lower()
        seconds(value)
    lifetime(directives([text]), text, NOW)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("max-age=60, Public", {"max-age": "60", "public": ""}),
        ('private="a, b" , max-age="5"', {"private": "a, b", "max-age": "5"}),
        ("max-age = 3", {"max-age": "3"}),
        ("", {}),
    ],
)
def test_directives(text: str, found: dict[str, str]) -> None:
    assert directives([text]) == found


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"cache_strategy": "memory"}, "invalid or empty cache_zone for cache_strategy: memory"),
        ({"cache_zone": "memory_cache"}, "invalid or empty cache_zone for cache_strategy: disk"),
        ({"cache_zone": "elsewhere"}, "cache_zone elsewhere not found"),
        ({"cache_key": []}, "cache_key"),
        ({"cache_key": ["$request_method"]}, "unsupported"),
        ({"cache_key": ["$unknown_thing"]}, "unknown_thing"),
        ({"cache_key": ["a$host"]}, "one variable"),
        ({"cache_method": ["DELETE"]}, "cache_method"),
        ({"cache_http_status": [199]}, "cache_http_status"),
        ({"cache_http_status": [200, 200]}, "cache_http_status"),
        ({"cache_ttl": 0}, "cache_ttl"),
        ({"no_cache": [""]}, "no_cache"),
        ({"surplus": 1}, "surplus"),
    ],
    ids=str,
)
def test_what_caches_nothing_is_refused(conf: dict[str, Any], reason: str) -> None:
    assert reason in refusal("proxy-cache", conf)
