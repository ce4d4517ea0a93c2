"""Names over time: answers that change, servers that fail, upstreams that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from data_plane.config.snapshot import Node, ServiceNode
from data_plane.dns import names
from data_plane.dns.answer import Answer, Endpoint, ResolveError
from data_plane.dns.service import DnsService
from tests.support.config_source import eventually

NAME = Node("a.test", 80, 5, b"a.test")
PLAIN = Node("10.0.0.9", 80, 1, b"10.0.0.9")
SERVICE = ServiceNode("svc.test", 0, 1, b"svc.test", default_port=80)


class Records:
    """What DNS says; every question is counted."""

    def __init__(self) -> None:
        self.known: dict[str, Answer | Exception] = {}
        self.asked: list[str] = []

    def set(self, name: str, *addresses: str, ttl: float = 0) -> None:
        self.known[name] = Answer(tuple(Endpoint(address) for address in addresses), ttl)

    async def addresses(self, name: str) -> Answer:
        self.asked.append(name)
        found = self.known.get(name, ResolveError("nobody knows"))
        if isinstance(found, Exception):
            raise found
        return found

    async def service(self, name: str) -> Answer:
        return await self.addresses(name)


class World:
    def __init__(self) -> None:
        self.records = Records()
        self.retired: list[bytes] = []
        self.dns = DnsService(asyncio.get_running_loop(), self.records, self.retired.append)
        self.told: list[list[str]] = []

    def use(self, *nodes: Node, upstream: str = "upstream/1") -> list[str]:
        """As a balancer does; what it begins with."""
        named = self.dns.addresses(upstream, nodes)
        assert named is not None
        self.named = named
        named.watch(lambda: self.told.append([shown(node) for node in named.resolved(nodes)]))
        return [shown(node) for node in named.resolved(nodes)]

    async def asked_again(self) -> None:
        """Two more questions: what the first of them brought is known."""
        before = len(self.records.asked)
        await eventually(lambda: len(self.records.asked) >= before + 2)


def shown(node: Node) -> str:
    return f"{node.address or node.host}:{node.port} {node.weight}"


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(names, "LEAST_SECONDS", 0.001)
    monkeypatch.setattr(names, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(names, "LAST_RETRY_SECONDS", 0.002)
    world = World()
    yield world
    await world.dns.close()


async def test_a_name_is_itself_until_it_is_known(world: World) -> None:
    world.records.set("a.test", "10.0.0.1", "10.0.0.2", ttl=60)
    assert world.use(NAME, PLAIN) == ["a.test:80 5", "10.0.0.9:80 1"]
    await eventually(lambda: world.told)
    # Each address has the weight of the name.
    assert world.told == [["10.0.0.1:80 5", "10.0.0.2:80 5", "10.0.0.9:80 1"]]


async def test_a_changed_answer_is_told_once_and_old_nodes_retire(world: World) -> None:
    world.records.set("a.test", "10.0.0.1", "10.0.0.2")
    world.use(NAME)
    await world.asked_again()
    world.records.set("a.test", "10.0.0.2", "10.0.0.3")
    await world.asked_again()
    assert world.told == [["10.0.0.1:80 5", "10.0.0.2:80 5"], ["10.0.0.2:80 5", "10.0.0.3:80 5"]]
    # The name itself had been a node too.
    assert world.retired == [NAME.key, NAME.key + b"#a.test#10.0.0.1#80"]


async def test_the_last_answer_stays_while_nobody_can_tell(world: World) -> None:
    world.records.set("a.test", "10.0.0.1")
    world.use(NAME)
    await world.asked_again()
    with capture_logs() as logs:
        world.records.known["a.test"] = ResolveError("no DNS server answered")
        await world.asked_again()
        assert len(world.told) == 1
        world.records.set("a.test", "10.0.0.1")
        await world.asked_again()
    assert len(world.told) == 1
    assert [line["event"] for line in logs] == ["name cannot be resolved", "name can be resolved again"]
    assert (logs[0]["reason"], logs[0]["keeps"]) == ("no DNS server answered", ["10.0.0.1"])


async def test_a_name_that_does_not_exist_any_more_has_no_nodes(world: World) -> None:
    world.records.set("a.test", "10.0.0.1")
    world.use(NAME, PLAIN)
    await world.asked_again()
    world.records.set("a.test")
    await world.asked_again()
    assert world.told[-1] == ["10.0.0.9:80 1"]


async def test_a_service_has_the_ports_of_its_records(world: World) -> None:
    endpoints = (Endpoint("10.0.0.1", 8080, "one.test", 60, 10), Endpoint("10.0.0.2", 80, "two.test", 20, 20))
    world.records.known["svc.test"] = Answer((*endpoints, Endpoint("10.0.0.3")), 60)
    assert world.use(SERVICE) == []
    await eventually(lambda: world.told)
    found = world.named.resolved((SERVICE,))
    assert [shown(node) for node in found] == ["10.0.0.1:8080 60", "10.0.0.2:80 20", "10.0.0.3:80 1"]
    assert [node.priority for node in found] == [-10, -20, 0]
    assert [node.authority for node in found] == [b"one.test:8080", b"two.test", b"svc.test"]
    fixed = ServiceNode("svc.test", 99, 1, b"svc.test:99", default_port=80)
    assert {node.port for node in world.named.resolved((fixed,))} == {99}


async def test_a_name_is_asked_for_once_for_all_and_as_long_as_it_is_used(world: World) -> None:
    world.records.set("a.test", "10.0.0.1", ttl=60)
    world.use(NAME)
    world.use(NAME, upstream="upstream/2")
    await eventually(lambda: len(world.told) == 2)
    assert world.records.asked == ["a.test"]
    world.dns.forget("upstream/1")
    await asyncio.sleep(0)
    assert world.named.resolved((NAME,))[0].address
    world.dns.forget("upstream/2")
    await asyncio.sleep(0)
    assert not world.named.resolved((NAME,))[0].address


async def test_a_mistake_of_ours_is_said_and_not_the_end(world: World) -> None:
    world.records.known["a.test"] = RuntimeError("a bug")
    with capture_logs() as logs:
        world.use(NAME)
        await eventually(lambda: logs)
        world.records.set("a.test", "10.0.0.1")
        await eventually(lambda: world.told)
    assert {line["event"] for line in logs} == {"following a name failed"}


async def test_nodes_with_addresses_are_nobody_elses_concern(world: World) -> None:
    assert world.dns.addresses("upstream/1", (PLAIN, Node("::1", 80, 1, b"[::1]"))) is None
