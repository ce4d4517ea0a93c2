"""traffic-split: which upstream requests take, as an exchange sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from control_plane.admin.references import targets
from data_plane.config.snapshot import NativeBinding, Timeouts, Upstream
from data_plane.exchange.info import DescribedExchange
from data_plane.routing.steps import finish
from shared.plugin.builtin.traffic_split import Turns
from shared.schema.resources import RESOURCES
from tests.support.config import Config
from tests.support.native import Native, refusal

A, B = ({"upstream": {"nodes": {f"{name}.test:80": 1}, "name": name}} for name in "ab")


def split(*weighted: dict[str, Any], match: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"rules": [{"weighted_upstreams": list(weighted), **({} if match is None else {"match": match})}]}


def nodes(native: Native, times: int, *fields: str) -> list[str]:
    """Which node each request goes to: that of the exchange's own route is `a`."""
    found = []
    for _ in range(times):
        assert native.request("/p", *fields) is not None
        node = native.exchange.node
        assert node is not None
        found.append(node.host)
    return found


def test_upstreams_take_turns_by_weight() -> None:
    native = Native({"traffic-split": split({**A, "weight": 3}, {**B, "weight": 1}, {"weight": 2})})
    found = nodes(native, 12)
    assert Counter(found) == {"a.test": 6, "b.test": 2, "a": 4}
    assert Counter(found[:6]) == {"a.test": 3, "b.test": 1, "a": 2}
    assert found[:3] != ["a.test"] * 3


def test_whoever_has_no_weight_gets_nothing() -> None:
    assert set(nodes(Native({"traffic-split": split({**A, "weight": 0}, B)}), 5)) == {"b.test"}
    assert set(nodes(Native({"traffic-split": split({**A, "weight": 0})}), 3)) == {"a"}


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        (("Release: new",), "a.test"),
        (("Beta: yes",), "a.test"),
        (("Release: old",), "b.test"),
        (("Release: none",), "a"),
        ((), "a"),
    ],
)
def test_the_first_rule_that_is_met_decides(fields: tuple[str, ...], host: str) -> None:
    either = [{"vars": [["http_release", "==", "new"]]}, {"vars": [["http_beta", "==", "yes"]]}]
    both = [{"vars": [["http_release", "in", ["new", "old"]], ["method", "==", "GET"]]}]
    rules = [{"match": either, "weighted_upstreams": [A]}, {"match": both, "weighted_upstreams": [B]}]
    assert nodes(Native({"traffic-split": {"rules": rules}}), 2, *fields) == [host] * 2


@pytest.mark.parametrize("conf", [{}, {"rules": []}, {"rules": [{}]}, {"rules": [{"match": []}]}], ids=str)
def test_without_anything_to_split_the_route_is_as_it_was(conf: dict[str, Any]) -> None:
    assert nodes(Native({"traffic-split": conf}), 2) == ["a", "a"]


def test_a_host_that_the_upstream_wants_is_sent() -> None:
    upstream = {"upstream": {"nodes": {"a.test:80": 1}, "pass_host": "node"}}
    sent = Native({"traffic-split": split(upstream)}).request()
    assert sent is not None
    assert sent["host"] == "a.test"


def test_timeouts_are_those_of_the_upstream_that_is_taken() -> None:
    timeout = {"connect": 1.5, "send": 2.5, "read": 3.5}
    native = Native({"traffic-split": split({"upstream": {"nodes": {"a.test:80": 1}, "timeout": timeout}})})
    native.request()
    exchange = native.exchange
    assert isinstance(exchange, DescribedExchange)
    route = exchange.route
    assert route is not None
    assert route.upstream is not None
    assert (route.timeouts.read, exchange.upstream_name) == (3.5, "route/1/traffic-split/1/0/0")
    exchange.route = replace(route, timeouts=Timeouts(read=9))
    exchange.use_upstream(route.upstream)
    assert exchange.route.timeouts.read == 9


def test_an_upstream_that_is_not_there_is_answered_for() -> None:
    native = Native({"traffic-split": split({"upstream_id": "7"}, {})})
    assert native.reply().status == 503
    assert nodes(native, 1) == ["a"]
    config = Config()
    config.put("routes", "1", {"uri": "/*", "upstream": {"nodes": {"late.test:80": 1}}})
    native.host.upstreams["7"] = config.route("1").upstream
    assert nodes(native, 2) == ["late.test", "a"]


def test_a_stream_upstream_takes_no_requests() -> None:
    config = Config()
    config.put("upstreams", "7", {"nodes": {"a.test:80": 1}, "scheme": "tcp"})
    upstream = config.commit().find_upstream("7")
    assert isinstance(upstream, Upstream)
    native = Native({"traffic-split": split({"upstream_id": 7})})
    native.host.upstreams["7"] = upstream
    assert native.reply().status == 503


def test_own_upstreams_come_and_go_with_the_configuration() -> None:
    config = Config()

    def write(conf: dict[str, Any]) -> Any:  # noqa: ANN401 - a plugin
        config.put("routes", "1", {"uri": "/*", "plugins": {"traffic-split": conf}, "upstream": {"nodes": {"u.test:80": 1}}})
        (binding,) = config.route("1").bindings
        assert isinstance(binding, NativeBinding)
        return binding.bound.plugin

    def own() -> set[str]:
        return {name for name in config.compiler._upstreams._compiled if "traffic-split" in name}

    first = write(split(A, B))._own("0/0")
    assert first is write(split(A, B))._own("0/0")
    assert own() == {"route/1/traffic-split/1/0/0", "route/1/traffic-split/1/0/1"}
    second = write(split(B, A))._own("0/0")
    assert second is not first
    config.delete("routes", "1")
    config.commit()
    finish(config.compiler.let_go())
    assert own() == set()


@pytest.mark.parametrize(
    ("conf", "ids"),
    [
        (split({"upstream_id": 1}, {"upstream_id": "b"}, A), ["1", "b"]),
        ({"rules": [{"weighted_upstreams": [{"upstream_id": None}, 5]}, 7]}, []),
        ({"rules": {}}, []),
        ("nonsense", []),
    ],
    ids=str,
)
def test_the_admin_api_knows_which_upstreams_are_named(conf: object, ids: list[str]) -> None:
    found = targets(RESOURCES["routes"], {"uri": "/*", "plugins": {"traffic-split": conf}})
    assert {(target.kind, target.id) for target in found} == {("upstreams", id) for id in ids}


def test_turns_are_smooth() -> None:
    turns = Turns([5, 1, 1])
    assert [turns.next() for _ in range(7)] == [0, 0, 1, 0, 2, 0, 0]


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"rules": {}}, "array"),
        (split(), "weighted_upstreams"),
        (split(*[{}] * 21), "weighted_upstreams"),
        (split({"weight": -1}), "weight"),
        (split({"upstream": {"nodes": {"a:1": 1}, "scheme": "tcp"}}), "scheme of HTTP"),
        (split({"upstream": {"nodes": {"a b": 1}}}), "nodes"),
        (split({"upstream": {"type": "chash", "nodes": {"a": 1}, "hash_on": "header"}}), "key"),
        (split(A, match=[{"vars": [["a", "~~~", 1]]}]), "vars"),
        (split(A, match=[{"vars": [["post_arg.a", "==", 1]]}]), "body"),
        ({"rules": [], "more": 1}, "more"),
    ],
    ids=str,
)
def test_what_splits_nothing_is_refused(conf: dict[str, Any], reason: str) -> None:
    assert reason in refusal("traffic-split", conf)
