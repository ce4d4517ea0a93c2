"""The resolver against a DNS server of ours, on each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from data_plane.dns import resolver as resolver_module
from data_plane.dns.answer import Answer, Endpoint, ResolveError
from data_plane.dns.hosts import HostsFile
from data_plane.dns.resolver import NEGATIVE_TTL, Resolver
from tests.support.dns_server import HOST, SOA_MINIMUM, DnsServer, dns_server
from tests.support.gateway import LOOPS

T = TypeVar("T")


@pytest.fixture(scope="module")
def running() -> Iterator[DnsServer]:
    with dns_server() as server:
        yield server


@pytest.fixture
def server(running: DnsServer) -> Iterator[DnsServer]:
    yield running
    running.records.clear()
    running.asked.clear()
    running.fails = running.silent = False
    running.over_tcp = 0


@pytest.fixture
def resolver(server: DnsServer, tmp_path: Path) -> Resolver:
    (tmp_path / "resolv.conf").write_text("search zone.test\noptions ndots:1\n")
    return Resolver([(HOST, server.port)], HostsFile(tmp_path / "hosts"), tmp_path / "resolv.conf")


@pytest.fixture(params=list(LOOPS))
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


def addresses(answer: Answer) -> list[str]:
    return [endpoint.address for endpoint in answer.endpoints]


def run(runner: asyncio.Runner, asking: Coroutine[Any, Any, T]) -> T:
    return runner.run(asking)


def test_addresses_with_their_ttl(runner: asyncio.Runner, resolver: Resolver, server: DnsServer) -> None:
    server.set("a.test", "A", "10.0.0.2", "10.0.0.1", ttl=42)
    server.set("a.test", "AAAA", "::2")
    assert run(runner, resolver.addresses("a.test")) == Answer((Endpoint("10.0.0.1"), Endpoint("10.0.0.2")), 42)
    assert server.asked == [("a.test", "A")]


def test_ipv6_where_there_is_no_ipv4(runner: asyncio.Runner, resolver: Resolver, server: DnsServer) -> None:
    server.set("six.test", "AAAA", "fd00::1", ttl=9)
    assert run(runner, resolver.addresses("six.test")) == Answer((Endpoint("fd00::1"),), 9)


def test_a_name_that_is_not_there(runner: asyncio.Runner, resolver: Resolver, server: DnsServer) -> None:
    # The lesser of the SOA record's TTL and its minimum.
    assert run(runner, resolver.addresses("none.test")) == Answer((), SOA_MINIMUM)
    assert SOA_MINIMUM != NEGATIVE_TTL


def test_a_long_answer_comes_over_tcp(runner: asyncio.Runner, resolver: Resolver, server: DnsServer) -> None:
    server.set("many.test", "A", *(f"10.0.1.{number}" for number in range(100)))
    assert len(run(runner, resolver.addresses("many.test")).endpoints) == 100
    assert server.over_tcp == 1


def test_the_search_list_and_the_hosts_file(
    runner: asyncio.Runner, resolver: Resolver, server: DnsServer, tmp_path: Path
) -> None:
    server.set("b.zone.test", "A", "10.0.0.7")
    assert addresses(run(runner, resolver.addresses("b"))) == ["10.0.0.7"]
    (tmp_path / "hosts").write_text("10.0.0.8 b")
    assert addresses(run(runner, resolver.addresses("b"))) == ["10.0.0.8"]


def test_a_service_as_apisix_has_it(runner: asyncio.Runner, resolver: Resolver, server: DnsServer) -> None:
    server.set("srv.test", "SRV", "10 60 1980 a.test.", "20 20 1981 b.test.", "30 0 0 a.test.", ttl=30)
    server.set("a.test", "A", "1.1.1.1", ttl=300)
    server.set("b.test", "A", "1.1.1.2", "1.1.1.3", ttl=20)
    found = run(runner, resolver.service("srv.test"))
    assert set(found.endpoints) == {
        Endpoint("1.1.1.1", 1980, "a.test", 60, 10),
        Endpoint("1.1.1.2", 1981, "b.test", 10, 20),
        Endpoint("1.1.1.3", 1981, "b.test", 10, 20),
        Endpoint("1.1.1.1", 0, "a.test", 1, 30),
    }
    assert found.ttl == 20


def test_a_service_without_srv_records_has_addresses(runner: asyncio.Runner, resolver: Resolver, server: DnsServer) -> None:
    server.set("plain.test", "A", "10.0.0.4")
    assert addresses(run(runner, resolver.service("plain.test"))) == ["10.0.0.4"]
    server.set("gone.test", "SRV", "0 0 0 .")
    assert run(runner, resolver.service("gone.test")).endpoints == ()


def test_a_server_that_fails_says_nothing(
    runner: asyncio.Runner, resolver: Resolver, server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.set("a.test", "A", "10.0.0.1")
    server.fails = True
    with pytest.raises(ResolveError, match="SERVFAIL"):
        run(runner, resolver.addresses("a.test"))
    monkeypatch.setattr(resolver_module, "LIFETIME_SECONDS", 0.2)
    monkeypatch.setattr(resolver_module, "SERVER_SECONDS", 0.1)
    server.fails, server.silent = False, True
    silent = Resolver([(HOST, server.port)])
    with pytest.raises(ResolveError, match=r"no DNS server answered within 0\.2 s"):
        run(runner, silent.addresses("a.test"))


def test_the_servers_of_the_machine_and_their_change(runner: asyncio.Runner, tmp_path: Path) -> None:
    missing = Resolver([], HostsFile(tmp_path / "hosts"), tmp_path / "none")
    with pytest.raises(ResolveError, match="none"):
        run(runner, missing.addresses("a.test"))


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "a..b", "\udcff.test"])
def test_names_that_nobody_can_ask_for(runner: asyncio.Runner, resolver: Resolver, name: str) -> None:
    with pytest.raises(ResolveError):
        run(runner, resolver.addresses(name))
