"""Consumers as a worker follows them: who a key belongs to, what they bring, and how little a change touches."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from data_plane.config.compiler import Compiler
from data_plane.config.merging import MOST
from data_plane.config.snapshot import NativeBinding
from data_plane.routing.steps import finish
from shared.plugin.consumer import Consumer
from shared.plugin.plugin import Plugin
from shared.plugin.registry import registry
from shared.plugin.request import Request
from shared.schema.common import Spec
from shared.store.contract import Entry, Listing
from tests.support.config import Config
from tests.support.native import Message, Native
from tests.support.plugin_host import RecordingHost


@pytest.fixture
def config() -> Config:
    made = Config()
    made.put("routes", "1", {"uri": "/*", "plugins": {"key-auth": {}}, "upstream": {"nodes": {"u.test:80": 1}}})
    return made


def put(config: Config, username: str, key: str | None = None, **more: Any) -> None:  # noqa: ANN401 - JSON
    plugins = more.pop("plugins", {}) | ({} if key is None else {"key-auth": {"key": key}})
    config.put("consumers", username, {"username": username, "plugins": plugins, **more})


def whose(config: Config, key: str, plugin: str = "key-auth") -> str | None:
    """`consumer`, or `consumer/credential`."""
    config.commit()
    found = config.host.consumers(plugin).get(key)
    return None if found is None else "/".join(filter(None, (found.username, found.credential_id)))


def sent(config: Config, key: str) -> Message:
    """What the upstream gets of a request with this key."""
    message = Native.of(config.route("1")).request("/p", f"apikey: {key}")
    assert message is not None
    return message


def answered(config: Config, key: str) -> Message:
    """What the client gets of an upstream's response to it."""
    native = Native.of(config.route("1"))
    assert native.request("/p", f"apikey: {key}") is not None
    return native.response(b"hello")


def header(name: str, value: str) -> dict[str, object]:
    return {"response-rewrite": {"headers": {"set": {name: value}}}}


def test_keys_follow_consumers_and_credentials(config: Config) -> None:
    put(config, "jack", "one")
    config.put("credentials", "jack/c1", {"plugins": {"key-auth": {"key": "two"}}})
    # Of a consumer that is not there yet.
    config.put("credentials", "rose/c1", {"plugins": {"key-auth": {"key": "three"}}})
    assert (whose(config, "one"), whose(config, "two"), whose(config, "three")) == ("jack", "jack/c1", None)
    put(config, "rose")
    assert whose(config, "three") == "rose/c1"
    put(config, "jack", "four")
    assert (whose(config, "one"), whose(config, "four"), whose(config, "two")) == (None, "jack", "jack/c1")
    config.delete("credentials", "jack/c1")
    assert whose(config, "two") is None
    config.delete("consumers", "rose")
    assert whose(config, "three") is None
    assert config.host.consumers("key-auth").named("jack") is not None
    assert config.host.consumers("key-auth").named("rose") is None


def test_of_two_with_one_key_the_first_by_name_has_it_on_every_worker(config: Config) -> None:
    put(config, "rose", "same")
    assert whose(config, "same") == "rose"
    put(config, "jack", "same")
    config.put("credentials", "jack/a", {"plugins": {"key-auth": {"key": "same"}}})
    assert whose(config, "same") == "jack"
    other = Config()
    other.entries, other.revision = config.entries, config.revision
    other.reload()
    assert whose(other, "same") == "jack"
    config.delete("consumers", "jack")
    assert whose(config, "same") == "rose"


def test_a_bad_version_of_a_consumer_leaves_the_last_good_one(config: Config) -> None:
    put(config, "jack", "one")
    assert whose(config, "one") == "jack"
    put(config, "jack", plugins={"key-auth": {"key": 5}})
    assert whose(config, "one") == "jack"
    assert "expected string" in config.compiler.problems["/apisix/consumers/jack"]


def test_one_of_many_changes_alone() -> None:
    host = RecordingHost()
    compiler = Compiler(host=host, consumers=host.index)
    entries = tuple(
        Entry(
            f"/apisix/consumers/u{number}", b'{"username":"u%d","plugins":{"key-auth":{"key":"k%d"}}}' % (number, number), 1, 1
        )
        for number in range(1000)
    )
    finish(compiler.load(Listing(1, entries)))
    compiler.begin()
    finish(compiler.commit({}))
    table = host.consumers("key-auth")
    before = [table.get(f"k{number}") for number in range(1000)]
    changed = Entry("/apisix/consumers/u7", b'{"username":"u7","plugins":{"key-auth":{"key":"other"}}}', 1, 2)
    finish(compiler.load(Listing(2, (*entries[:7], changed, *entries[8:]))))
    compiler.begin()
    finish(compiler.commit({}))
    same = [table.get(f"k{number}") is consumer for number, consumer in enumerate(before)]
    assert same.count(False) == 1
    assert not same[7]
    assert table.get("other") is not None


def test_the_upstream_is_told_who_it_is(config: Config) -> None:
    put(config, "jack", "one", labels={"custom_id": "c-17", "team": "x"})
    config.put("credentials", "jack/c1", {"plugins": {"key-auth": {"key": "two"}}})
    message = sent(config, "one")
    names = ("x-consumer-username", "x-credential-identifier", "x-consumer-custom-id")
    assert [message[name] for name in names] == ["jack", None, "c-17"]
    assert [sent(config, "two")[name] for name in names] == ["jack", "c1", "c-17"]


def test_the_nearest_to_the_consumer_counts(config: Config) -> None:
    upstream = {"nodes": {"u.test:80": 1}}
    levels = [
        ("services", "s", {"plugins": header("X-Of", "service"), "upstream": upstream}),
        ("plugin_configs", "p", {"plugins": header("X-Of", "plugin_config")}),
        ("consumer_groups", "g", {"plugins": header("X-Of", "group")}),
    ]
    for kind, id, document in levels:
        config.put(kind, id, document)  # type: ignore[arg-type]
    config.put("routes", "1", {"uri": "/*", "plugins": {"key-auth": {}}, "service_id": "s"})
    put(config, "jack", "one")
    assert answered(config, "one")["x-of"] == "service"
    config.put("routes", "1", {"uri": "/*", "plugins": {"key-auth": {}}, "service_id": "s", "plugin_config_id": "p"})
    assert answered(config, "one")["x-of"] == "plugin_config"
    own = {"key-auth": {}, **header("X-Of", "route")}
    config.put("routes", "1", {"uri": "/*", "plugins": own, "service_id": "s", "plugin_config_id": "p"})
    assert answered(config, "one")["x-of"] == "route"
    put(config, "jack", "one", group_id="g")
    assert answered(config, "one")["x-of"] == "group"
    put(config, "jack", "one", group_id="g", plugins=header("X-Of", "consumer"))
    assert answered(config, "one").all("x-of") == ["consumer"]


def test_a_group_that_changes_is_seen_at_once_and_touches_no_consumer(config: Config) -> None:
    config.put("consumer_groups", "g", {"plugins": header("X-Of", "one")})
    put(config, "jack", "one", group_id="g")
    native = Native.of(config.route("1"))
    consumer = config.host.consumers("key-auth").get("one")
    config.put("consumer_groups", "g", {"plugins": header("X-Of", "two")})
    config.commit()
    # The route that was compiled before, too.
    assert native.request("/p", "apikey: one") is not None
    assert native.response(b"hello")["x-of"] == "two"
    assert config.host.consumers("key-auth").get("one") is consumer


def test_a_group_that_is_not_there_closes(config: Config) -> None:
    put(config, "jack", "one", group_id="g")
    native = Native.of(config.route("1"))
    assert native.reply("/p", "apikey: one").status == 503
    config.put("consumer_groups", "g", {"plugins": {}})
    config.commit()
    assert native.request("/p", "apikey: one") is not None


def test_a_consumer_takes_a_plugin_of_the_route_out(config: Config) -> None:
    plugins = {"key-auth": {}, **header("X-Of", "route")}
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "upstream": {"nodes": {"u.test:80": 1}}})
    put(config, "jack", "one", plugins={"response-rewrite": {"_meta": {"disable": True}}})
    assert answered(config, "one")["x-of"] is None


def test_global_rules_run_besides(config: Config) -> None:
    config.put("global_rules", "1", {"plugins": {"response-rewrite": {"headers": {"add": ["X-Of: global"]}}}})
    put(config, "jack", "one", plugins={"response-rewrite": {"headers": {"add": ["X-Of: consumer"]}}})
    assert answered(config, "one").all("x-of") == ["global", "consumer"]


def test_a_plugin_that_is_brought_has_its_rewrite_phase_once(config: Config) -> None:
    adds = {"proxy-rewrite": {"headers": {"add": {"X-By": "consumer"}}}}
    put(config, "jack", "one", plugins=adds)
    assert sent(config, "one").all("x-by") == ["consumer"]
    # The route's has run already; the consumer's is then no second time for it.
    plugins = {"key-auth": {}, "proxy-rewrite": {"headers": {"add": {"X-By": "route"}}}}
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "upstream": {"nodes": {"u.test:80": 1}}})
    assert sent(config, "one").all("x-by") == ["route"]


def test_an_anonymous_consumer_brings_its_plugins(config: Config) -> None:
    plugins = {"key-auth": {"anonymous_consumer": "anyone"}}
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "upstream": {"nodes": {"u.test:80": 1}}})
    put(config, "anyone", plugins=header("X-Of", "anyone"))
    native = Native.of(config.route("1"))
    message = native.request("/p")
    assert message is not None
    assert message["x-consumer-username"] == "anyone"
    assert native.response(b"hello")["x-of"] == "anyone"


def test_a_global_rule_that_authenticates_is_enough(config: Config) -> None:
    config.put("global_rules", "1", {"plugins": {"key-auth": {}}})
    config.put("routes", "1", {"uri": "/*", "upstream": {"nodes": {"u.test:80": 1}}})
    put(config, "jack", "one", plugins=header("X-Of", "consumer"))
    assert answered(config, "one")["x-of"] == "consumer"


def test_a_route_that_authenticates_nobody_has_no_step_for_consumers(config: Config) -> None:
    config.put("routes", "1", {"uri": "/*", "plugins": header("X-Of", "r"), "upstream": {"nodes": {"u.test:80": 1}}})
    assert [binding.name for binding in config.route("1").bindings] == ["response-rewrite"]


class Nothing(Spec):
    pass


class Counting(Plugin[Nothing]):
    """Counts the requests of one configuration."""

    name = "counting"
    priority = 10
    Config = Nothing
    detached: list[str] = []  # noqa: RUF012 - a test's own

    def __init__(self, config: Nothing, metadata: object = None) -> None:
        super().__init__(config)
        self.count = 0

    def access(self, request: Request) -> None:
        self.count += 1
        request.set_header("X-Count", f"{self.owner} {self.count}")

    def detach(self) -> None:
        self.detached.append(f"{self.owner} {self.count}")


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry().plugins, "counting", Counting)
    Counting.detached.clear()


@pytest.mark.usefixtures("counting")
def test_what_a_plugin_counts_stays_with_its_consumer(config: Config) -> None:
    put(config, "jack", "one", plugins={"counting": {}})
    config.put("consumer_groups", "g", {"plugins": {"counting": {}}})
    put(config, "rose", "two", group_id="g")
    put(config, "mary", "three", group_id="g")
    config.put("routes", "2", {"uri": "/*", "plugins": {"key-auth": {}}, "upstream": {"nodes": {"u.test:80": 1}}})
    first, second = Native.of(config.route("1")), Native.of(config.route("2"))

    def counted(native: Native, key: str) -> str | None:
        message = native.request("/p", f"apikey: {key}")
        return None if message is None else message["x-count"]

    assert [counted(first, "one"), counted(second, "one")] == ["consumer/jack 1", "consumer/jack 2"]
    assert [counted(first, "two"), counted(second, "three")] == ["consumer_group/g 1", "consumer_group/g 2"]
    # A change beside it, of the consumer, of the group, of the route.
    put(config, "jack", "other", plugins={"counting": {}}, desc="changed")
    config.put("consumer_groups", "g", {"plugins": {"counting": {}, **header("X", "y")}})
    config.put("routes", "1", {"uri": "/*", "plugins": {"key-auth": {}, "cors": {}}, "upstream": {"nodes": {"u.test:80": 1}}})
    first = Native.of(config.route("1"))
    assert counted(first, "other") == "consumer/jack 3"
    assert counted(first, "two") == "consumer_group/g 3"
    assert Counting.detached == []


@pytest.mark.usefixtures("counting")
def test_a_plugin_is_let_go_with_the_last_that_holds_it(config: Config) -> None:
    plugins: dict[str, Any] = {"key-auth": {}, "counting": {}}
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "upstream": {"nodes": {"u.test:80": 1}}})
    put(config, "jack", "one")
    native = Native.of(config.route("1"))
    assert native.request("/p", "apikey: one") is not None
    config.put("routes", "1", {"uri": "/*", "plugins": {"key-auth": {}}, "upstream": {"nodes": {"u.test:80": 1}}})
    config.commit()
    gc.collect()
    assert Counting.detached == []
    del native
    gc.collect()
    assert Counting.detached == ["route/1 1"]
    # Twice the same configuration: nothing is let go.
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "upstream": {"nodes": {"u.test:80": 1}}})
    config.commit()
    config.put("routes", "1", {"uri": "/a", "plugins": plugins, "upstream": {"nodes": {"u.test:80": 1}}})
    config.commit()
    gc.collect()
    assert Counting.detached == ["route/1 1"]


class Breaking(Counting):
    name = "breaking"

    def attach(self, host: object) -> None:
        raise RuntimeError("attached")

    def detach(self) -> None:
        raise RuntimeError("detached")


def test_a_plugin_that_cannot_be_attached_stops_nobody(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry().plugins, "breaking", Breaking)
    config.put("routes", "1", {"uri": "/*", "plugins": {"breaking": {}}, "upstream": {"nodes": {"u.test:80": 1}}})
    config.commit()
    config.delete("routes", "1")
    config.commit()
    gc.collect()
    assert [(name, str(error)) for name, error in config.host.failures] == [("breaking", "attached"), ("breaking", "detached")]


def test_a_route_keeps_what_it_has_made_for_a_bounded_number_of_consumers(config: Config) -> None:
    for number in range(MOST + 2):
        put(config, f"u{number}", f"k{number}", plugins=header("X-Of", str(number)))
    route = config.route("1")
    merge = route.bindings[-1]
    assert isinstance(merge, NativeBinding)
    native = Native.of(route)
    for number in range(MOST + 2):
        assert native.request("/p", f"apikey: k{number}") is not None
    assert len(merge.bound.plugin._merged) == MOST  # type: ignore[attr-defined]
    assert native.request("/p", "apikey: k0") is not None
    assert native.response(b"hello")["x-of"] == "0"


def test_an_unchanged_route_stays_the_same_object(config: Config) -> None:
    put(config, "jack", "one")
    before = config.route("1")
    config.put("routes", "1", {"uri": "/*", "plugins": {"key-auth": {}}, "upstream": {"nodes": {"u.test:80": 1}}, "desc": "x"})
    assert config.route("1").bindings == before.bindings


def test_no_value_of_a_consumer_ends_its_line() -> None:
    consumer = Consumer("a", "b", labels={"custom_id": "x\r\nX-Evil: 1"})
    assert consumer.lines.count(b"\r\n") == 3
