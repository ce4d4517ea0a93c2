"""plugins/rust/rate-limit: who is counted with whom, for how long, and that no request is forgotten."""

from __future__ import annotations

import json
import time

import pytest

from shared.proxy_wasm import Facts, Plugin, Refused, Shared, Status, Stream
from shared.proxy_wasm.testing.memory import MemoryServices
from tests.support.examples import load

DAY = 86_400
NOON = 20_000 * DAY + DAY // 2
# Bytes that are no UTF-8.
NO_TEXT = "\udcff\udc80"


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's clock stands, so that no window ends while a test runs."""
    monkeypatch.setattr(time, "time_ns", lambda: NOON * 10**9)


def limiter(limit: int, shared: Shared | None = None, **conf: object) -> Plugin:
    return load("rust-rate-limit", {"limit": limit, "window_seconds": DAY, **conf}, shared=shared)


def ask(plugin: Plugin, client: str = "192.0.2.1", route: str = "one", **headers: str) -> Stream:
    return plugin.request(headers=headers, facts=Facts(client_address=(client, 5000), route_name=route))


def statuses(plugin: Plugin, times: int, **of: str) -> list[int]:
    return [ask(plugin, **of).response.status for _ in range(times)]


def test_a_client_may_ask_so_often_and_is_told_how_often() -> None:
    with limiter(2) as plugin:
        first, second, third = (ask(plugin) for _ in range(3))
    assert [stream.response.headers["x-ratelimit-remaining"] for stream in (first, second, third)] == ["1", "0", "0"]
    assert [stream.response.status for stream in (first, second, third)] == [200, 200, 429]
    assert not third.was_forwarded
    assert json.loads(third.response.body) == {"error_msg": "too many requests"}
    assert third.response.headers["x-ratelimit-limit"] == "2"
    assert third.response.headers["retry-after"] == third.response.headers["x-ratelimit-reset"] == str(DAY // 2)


def test_clients_are_told_apart_by_address_or_by_header() -> None:
    with limiter(1) as plugin:
        assert statuses(plugin, 2, client="192.0.2.1") == [200, 429]
        assert statuses(plugin, 2, client="2001:db8::1") == [200, 429]
        assert statuses(plugin, 1, client="2001:db8::2") == [200]
    with limiter(1, key_header="X-Key") as plugin:
        assert statuses(plugin, 2, client="192.0.2.1", **{"x-key": "a"}) == [200, 429]
        assert statuses(plugin, 1, client="192.0.2.9", **{"x-key": "a"}) == [429]
        assert statuses(plugin, 1, client="192.0.2.1", **{"x-key": "b"}) == [200]
        assert statuses(plugin, 2, client="192.0.2.1") == [200, 429]
        assert statuses(plugin, 1, client="192.0.2.1", **{"x-key": NO_TEXT}) == [200]


def test_routes_count_for_themselves_unless_they_are_a_group() -> None:
    with limiter(1) as plugin:
        assert statuses(plugin, 2, route="one") == [200, 429]
        assert statuses(plugin, 2, route="two") == [200, 429]
    with limiter(1, group="all") as plugin:
        assert statuses(plugin, 1, route="one") == [200]
        assert statuses(plugin, 1, route="two") == [429]


def test_the_next_window_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    with limiter(1) as plugin:
        assert statuses(plugin, 2) == [200, 429]
        monkeypatch.setattr(time, "time_ns", lambda: (NOON + DAY) * 10**9)
        assert statuses(plugin, 2) == [200, 429]
        assert len(plugin.shared_data) == 1


def test_workers_count_together() -> None:
    shared = Shared()
    with limiter(3, shared) as one, limiter(3, shared) as two:
        assert [ask(plugin).response.status for plugin in (one, two, one, two)] == [200, 200, 200, 429]


def test_a_count_that_another_worker_changed_meanwhile_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker is faster: ten times between reading and writing, the first time where no count was yet."""
    shared = Shared()
    write, faster = MemoryServices.set_data, iter(range(10))

    def set_data(services: MemoryServices, key: bytes, value: bytes, cas: int) -> Status:
        if next(faster, None) is not None:
            held, number = shared.data.get(("rate-limit", key), (value[:16] + bytes(4), 0))
            used = int.from_bytes(held[16:], "little") + 1
            assert write(services, key, held[:16] + used.to_bytes(4, "little"), number) is Status.OK
        return write(services, key, value, cas)

    monkeypatch.setattr(MemoryServices, "set_data", set_data)
    with limiter(100, shared) as plugin:
        assert ask(plugin).response.headers["x-ratelimit-remaining"] == str(100 - 10 - 1)


def test_a_host_without_room_is_a_failure_that_the_policy_decides_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryServices, "set_data", lambda *_: Status.INTERNAL_FAILURE)
    plugin = limiter(1)
    assert ask(plugin).response.status == 503
    assert plugin.failure is not None
    assert any("unexpected status: 10" in message for message in plugin.messages)


def test_what_is_kept_is_bounded_and_many_clients_are_told_apart() -> None:
    with limiter(1) as plugin:
        clients = [f"10.0.{n >> 8}.{n & 255}" for n in range(2000)]
        assert [ask(plugin, client).response.status for client in clients] == [200] * 2000
        assert {len(value) for value in plugin.shared_data.values()} == {20}
        places = {int(key.rpartition(b"/")[2]) for key in plugin.shared_data}
        assert len(places) == 2000
        assert max(places) < 65_536


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({}, "a number is expected for limit"),
        ({"limit": 0}, "a number from 1 to 4294967295 is expected for limit"),
        ({"limit": 1, "window_seconds": DAY + 1}, "a number from 1 to 86400 is expected for window_seconds"),
        ({"limit": 1, "key_header": ""}, "not a header name: "),
        ({"limit": 1, "key": "x"}, "unknown key key"),
    ],
)
def test_a_bad_configuration_is_refused(conf: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        load("rust-rate-limit", conf)
    assert refused.value.logs[-1].message == f"rate-limit: bad configuration: {reason}"
