"""limit-count, limit-req and limit-conn, as transcripts over rows in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from data_plane.config.snapshot import NativeBinding
from shared.limits.rows import LimitsFailed, MemoryRows
from shared.plugin.builtin.limit_conn import LimitConn
from shared.plugin.builtin.limit_count import LimitCount
from shared.plugin.builtin.limit_req import LimitReq
from tests.support.config import Config
from tests.support.native import Message, Native, compiled, refusal
from tests.support.plugin_host import RecordingHost


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Broken(MemoryRows):
    def change(self, key: bytes, step: object) -> Any:  # noqa: ANN401 - never returns
        raise LimitsFailed("no memory")


def passes(native: Native, target: str = "/p", *fields: str) -> bool:
    """Whether a request goes to the upstream, once it has waited for what it waits for."""
    if native.request(target, *fields) is None and native.stage.waiting:
        answer, told = native.stage.waiting.pop()

        async def awaited() -> None:
            told(await answer, None)

        asyncio.run(awaited())
    return bool(native.recorded.upstream)


class Limited:
    """A route with one of the plugins, whose time the test tells."""

    def __init__(self, plugin: str, conf: dict[str, Any], **options: Any) -> None:  # noqa: ANN401 - as `Native`
        self.clock = Clock()
        self.native = Native({plugin: conf}, counters=MemoryRows(self.clock), **options)

    def get(self, *fields: str, target: str = "/p", upstream: tuple[str, ...] = ()) -> Message:
        """What the client gets."""
        if not passes(self.native, target, *fields):
            return self.native.answer
        return self.native.response(b"hello", fields=upstream)

    def statuses(self, times: int, *fields: str) -> list[int]:
        return [self.get(*fields).status for _ in range(times)]


def count(**more: Any) -> Limited:  # noqa: ANN401 - any configuration
    return Limited("limit-count", {"count": 2, "time_window": 60, **more})


def quota(message: Message, prefix: str = "") -> tuple[str | None, ...]:
    return tuple(message[f"x-{prefix}ratelimit-{name}"] for name in ("limit", "remaining", "reset"))


def test_what_is_left_stands_in_the_response_and_what_is_too_much_is_refused() -> None:
    limited = count()
    assert quota(limited.get()) == ("2", "1", "60")
    limited.clock.now += 20.5
    assert quota(limited.get()) == ("2", "0", "40")
    refused = limited.get()
    assert (refused.status, refused.body, quota(refused)) == (503, b"", ("2", "0", "40"))
    limited.clock.now += 40
    assert quota(limited.get()) == ("2", "1", "60")


@pytest.mark.parametrize(
    ("more", "status", "body"),
    [
        ({"rejected_code": 429}, 429, b""),
        ({"rejected_code": 429, "rejected_msg": "slow down"}, 429, b'{"error_msg":"slow down"}\n'),
    ],
)
def test_a_refusal_is_what_the_configuration_says(more: dict[str, Any], status: int, body: bytes) -> None:
    limited = count(**more)
    refused = [limited.get() for _ in range(3)][-1]
    assert (refused.status, refused.body) == (status, body)


def test_the_quota_is_not_shown_where_it_shall_not_be() -> None:
    assert quota(count(show_limit_quota_header=False).get()) == (None, None, None)


def test_the_upstream_does_not_say_what_the_gateway_says() -> None:
    message = count().get(upstream=("X-RateLimit-Remaining: 99", "x-ratelimit-reset: never"))
    assert (message.all("x-ratelimit-remaining"), message.all("x-ratelimit-reset")) == (["1"], ["60"])


@pytest.mark.parametrize(
    ("conf", "one", "other"),
    [
        ({"key": "http_x_key"}, ("X-Key: a",), ("X-Key: b",)),
        ({"key": "arg_who"}, ("X: a",), ()),
        ({"key_type": "var_combination", "key": "$http_x_key $http_x_tenant"}, ("X-Key: a",), ("X-Key: a", "X-Tenant: t")),
    ],
)
def test_keys_are_counted_apart_and_clients_without_one_by_address(
    conf: dict[str, Any], one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    limited = count(**conf)
    if conf["key"] == "arg_who":
        assert [limited.get(target=f"/p?who={who}").status for who in "aabba"] == [200, 200, 200, 200, 503]
    else:
        assert limited.statuses(3, *one) == [200, 200, 503]
        assert limited.statuses(3, *other) == [200, 200, 503]
    assert limited.statuses(3) == [200, 200, 503]


def test_a_constant_key_is_everybodys() -> None:
    limited = count(key_type="constant", key="all")
    limited.native._address = ("10.0.0.9", 1)
    assert limited.statuses(1) == [200]
    limited.native._address = ("10.0.0.8", 1)
    assert limited.statuses(2) == [200, 503]


def test_a_window_may_slide() -> None:
    limited = count(window_type="sliding", time_window=10)
    limited.clock.now = 1009.0
    assert limited.statuses(3) == [200, 200, 503]
    limited.clock.now = 1012.0
    assert limited.statuses(1) == [503]
    limited.clock.now = 1015.5
    assert limited.statuses(2) == [200, 503]


def test_counts_may_come_from_variables() -> None:
    limited = count(count="$http_x_quota", time_window="$http_x_window")
    assert quota(limited.get("X-Quota: 7", "X-Window: 30")) == ("7", "6", "30")
    for bad in ("", "0", "-1", "1.5", "x", "99999999999"):
        assert limited.get(f"X-Quota: {bad}", "X-Window: 30").status == 500
    assert limited.get().status == 500


def test_each_rule_that_has_its_key_counts_and_the_first_that_refuses_ends_it() -> None:
    rules = [
        {"key": "$http_x_user", "count": 1, "time_window": 10, "header_prefix": "user"},
        {"key": "$remote_addr", "count": 3, "time_window": 60},
    ]
    limited = Limited("limit-count", {"rules": rules, "rejected_code": 429})
    first = limited.get("X-User: a")
    assert (quota(first, "user-"), quota(first, "2-")) == (("1", "0", "10"), ("3", "2", "60"))
    refused = limited.get("X-User: a")
    assert (refused.status, quota(refused, "user-"), quota(refused, "2-")) == (429, ("1", "0", "10"), (None, None, None))
    assert limited.statuses(3) == [200, 200, 429]


def test_a_request_that_no_rule_is_for_is_not_let_through_without_a_limit() -> None:
    rules = [{"key": "$http_x_user", "count": 1, "time_window": 10}]
    assert Limited("limit-count", {"rules": rules}).get().status == 500
    assert Limited("limit-count", {"rules": rules, "allow_degradation": True}).get().status == 200


def test_metadata_names_the_headers() -> None:
    metadata = {"limit-count": {"limit_header": "X-L", "remaining_header": "X-M", "reset_header": "X-S"}}
    message = Limited("limit-count", {"count": 2, "time_window": 60}, metadata=metadata).get()
    assert [message[name] for name in ("x-l", "x-m", "x-s", "x-ratelimit-limit")] == ["2", "1", "60", None]


@pytest.mark.parametrize("plugin", ["limit-count", "limit-req", "limit-conn"])
@pytest.mark.parametrize(("degrades", "status"), [(False, 500), (True, 200)])
def test_without_counters_the_answer_is_500_or_no_limit(plugin: str, degrades: bool, status: int) -> None:
    native = Native({plugin: {**EXAMPLES[plugin], "allow_degradation": degrades}}, counters=Broken())
    answer = native.passed() if degrades else native.reply()
    assert answer.status == status
    assert b"no memory" not in answer.body
    assert {name for name, _ in native.host.failures} == {plugin}


EXAMPLES: dict[str, dict[str, Any]] = {
    "limit-count": {"count": 2, "time_window": 60},
    "limit-req": {"rate": 1, "burst": 0, "key": "remote_addr"},
    "limit-conn": {"conn": 1, "burst": 0, "default_conn_delay": 0.1, "key": "remote_addr"},
}


def _counted(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two routes count together."""
    rows = MemoryRows()
    config = Config(RecordingHost(counters=rows))
    for id, conf in (("1", first), ("2", second)):
        config.put("routes", id, {"uri": f"/{id}", "plugins": {"limit-count": conf}, "upstream": {"nodes": {"u.test:80": 1}}})
    natives = []
    for id in "12":
        (binding,) = config.route(id).bindings
        assert isinstance(binding, NativeBinding)
        assert isinstance(binding.bound.plugin, LimitCount)
        natives.append(binding.bound.plugin)
    return natives[0]._prefix == natives[1]._prefix


def test_routes_count_apart_unless_they_are_of_one_group() -> None:
    conf = EXAMPLES["limit-count"]
    assert not _counted(conf, conf)
    assert _counted({**conf, "group": "a"}, {**conf, "group": "a"})
    assert not _counted({**conf, "group": "a"}, {**conf, "group": "b"})
    assert not _counted({**conf, "group": "a"}, {**conf, "count": 3, "group": "a"})


def test_a_count_survives_what_else_changes_on_its_route_and_not_its_own_change() -> None:
    config = Config(RecordingHost(counters=MemoryRows()))

    def plugin(conf: dict[str, Any], **others: Any) -> Any:  # noqa: ANN401 - a plugin
        route = {"uri": "/*", "plugins": {"limit-count": conf, **others}, "upstream": {"nodes": {"u.test:80": 1}}}
        config.put("routes", "1", route)
        bindings = [one for one in config.route("1").bindings if one.name == "limit-count"]
        assert isinstance(bindings[0], NativeBinding)
        return bindings[0].bound.plugin

    before = plugin(EXAMPLES["limit-count"])
    assert plugin(EXAMPLES["limit-count"], echo={"before_body": "x"})._prefix == before._prefix
    assert plugin({"count": 3, "time_window": 60})._prefix != before._prefix


# limit-req


class Slept:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, plugin: type[LimitReq] | type[LimitConn]) -> None:
        self.seconds: list[float] = []
        monkeypatch.setattr(plugin, "sleep", staticmethod(self._sleep))

    async def _sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


def req(**more: Any) -> Limited:  # noqa: ANN401 - any configuration
    return Limited("limit-req", {**EXAMPLES["limit-req"], **more})


def test_requests_at_an_even_rate_pass() -> None:
    limited = req(rejected_code=429, rejected_msg="too fast")
    assert limited.statuses(2) == [200, 429]
    assert limited.get().body == b'{"error_msg":"too fast"}\n'
    limited.clock.now += 1
    assert limited.statuses(2) == [200, 429]


def test_some_that_come_too_early_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = Slept(monkeypatch, LimitReq)
    limited = req(rate=2, burst=2)
    assert limited.statuses(4) == [200, 200, 200, 503]
    assert slept.seconds == [0.5, 1.0]


def test_without_delay_a_burst_passes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = Slept(monkeypatch, LimitReq)
    assert req(burst=1.5, nodelay=True).statuses(3) == [200, 200, 503]
    assert not slept.seconds


# limit-conn


class Open:
    """Requests of one route that are under way."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.native = Native({"limit-conn": {**EXAMPLES["limit-conn"], **conf}}, counters=MemoryRows())
        self.exchanges: list[Any] = []

    def begin(self) -> bool:
        """Whether it goes to the upstream."""
        passed = passes(self.native)
        if passed:
            self.exchanges.append((self.native.exchange, self.native.recorded))
        return passed

    def end(self, how: str) -> None:
        self.native.exchange, self.native.recorded = self.exchanges.pop()
        if how == "response":
            self.native.response(b"x")
        elif how == "gone":
            self.native.exchange.client_gone()
        else:
            self.native.exchange.client_failed("client_timeout")


@pytest.mark.parametrize("how", ["response", "gone", "failed"])
def test_so_many_are_under_way_at_once_and_are_counted_out_however_they_end(how: str) -> None:
    opened = Open({"conn": 2})
    assert [opened.begin() for _ in range(3)] == [True, True, False]
    opened.end(how)
    assert [opened.begin(), opened.begin()] == [True, False]
    opened.end(how)
    opened.end(how)
    assert opened.native.host.counters.rows == {}  # type: ignore[attr-defined]


def test_those_beyond_wait_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = Slept(monkeypatch, LimitConn)
    opened = Open({"conn": 1, "burst": 2, "default_conn_delay": 0.25, "only_use_default_delay": True})
    assert [opened.begin() for _ in range(4)] == [True, True, True, False]
    assert slept.seconds == [0.25, 0.5]


@pytest.mark.parametrize(("only", "learns"), [(True, False), (False, True)])
def test_the_delay_follows_the_time_that_requests_take(monkeypatch: pytest.MonkeyPatch, only: bool, learns: bool) -> None:
    slept = Slept(monkeypatch, LimitConn)
    opened = Open({"burst": 1, "default_conn_delay": 8, "only_use_default_delay": only})
    for _ in range(3):
        opened.begin()
        opened.end("response")
    opened.begin()
    opened.begin()
    assert slept.seconds == ([pytest.approx(1.0)] if learns else [8])


# What is refused when it is written.


@pytest.mark.parametrize(
    ("plugin", "conf", "reason"),
    [
        ("limit-count", {}, "expected count and time_window, or rules"),
        ("limit-count", {"count": 1}, '"time_window" is required'),
        ("limit-count", {"count": 0, "time_window": 1}, "count"),
        ("limit-count", {"count": 1, "time_window": 0}, "time_window"),
        ("limit-count", {"count": "x", "time_window": 1}, "expected a whole number"),
        ("limit-count", {"count": "$nothing", "time_window": 1}, "nothing"),
        ("limit-count", {"count": True, "time_window": 1}, "count"),
        ("limit-count", {"count": 1, "time_window": 1, "key": "no_such_variable"}, "no_such_variable"),
        ("limit-count", {"count": 1, "time_window": 1, "key_type": "var_combination", "key": "$nix"}, "nix"),
        ("limit-count", {"count": 1, "time_window": 1, "rejected_code": 199}, "rejected_code"),
        ("limit-count", {"count": 1, "time_window": 1, "rejected_msg": ""}, "rejected_msg"),
        ("limit-count", {"count": 1, "time_window": 1, "policy": "redis"}, '"redis_host" is required'),
        ("limit-count", {"count": 1, "time_window": 1, "policy": "redis-sentinel"}, "policy"),
        ("limit-count", {"count": 1, "time_window": 1, "policy": "redis-cluster"}, '"redis_cluster_nodes" is required'),
        ("limit-count", {"count": 1, "time_window": 1, "sync_interval": 1}, "sync_interval"),
        ("limit-count", {"count": 1, "time_window": 1, "rules": [{"key": "a", "count": 1, "time_window": 1}]}, "one schema"),
        ("limit-count", {"rules": []}, "rules"),
        ("limit-count", {"rules": [{"key": "$uri", "count": 1, "time_window": 1}] * 2}, "duplicate key"),
        ("limit-count", {"rules": [{"key": "$uri", "count": 1, "time_window": 1, "header_prefix": "a b"}]}, "header_prefix"),
        ("limit-count", {"count": 1, "time_window": 1, "surplus": 1}, "surplus"),
        ("limit-req", {"rate": 1, "burst": 1}, "key"),
        ("limit-req", {"rate": 0, "burst": 1, "key": "remote_addr"}, "rate"),
        ("limit-req", {"rate": 1, "burst": -1, "key": "remote_addr"}, "burst"),
        ("limit-req", {"rate": 1, "burst": 1, "key": "a", "key_type": "constant"}, "key_type"),
        ("limit-conn", {"conn": 0, "burst": 1, "default_conn_delay": 1}, "conn"),
        ("limit-conn", {"conn": 1, "burst": 1, "default_conn_delay": 0}, "default_conn_delay"),
        ("limit-conn", {"conn": 1, "burst": 1, "default_conn_delay": 1, "redis_port": 0}, "redis_port"),
    ],
)
def test_what_makes_no_limit_is_refused(plugin: str, conf: dict[str, Any], reason: str) -> None:
    assert reason in refusal(plugin, conf)


@pytest.mark.parametrize("plugin", EXAMPLES)
def test_the_examples_are_accepted(plugin: str) -> None:
    assert refusal(plugin, EXAMPLES[plugin]) == "accepted"
    compiled({plugin: EXAMPLES[plugin]})
