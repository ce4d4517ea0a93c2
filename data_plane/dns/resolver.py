"""Names to endpoints by DNS, on the worker's event loop.

The law: a name is looked for in /etc/hosts, then asked of the servers of /etc/resolv.conf (or of those that the operator
gave), by its search list; over UDP, and over TCP where an answer is too long. A name is asked for as A, and as AAAA where there
is no A; a service as SRV, and for its addresses where it has none. SRV records of weight 0 have weight 1, as in APISIX.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from data_plane.dns.answer import Answer, Endpoint, ResolveError
from data_plane.dns.hosts import HostsFile

RESOLV_CONF = Path("/etc/resolv.conf")
# A server that does not answer is asked again or passed over; all of it together takes so long at most.
SERVER_SECONDS = 2.0
LIFETIME_SECONDS = 5.0
# A changed /etc/hosts is seen so soon.
HOSTS_TTL = 5.0
# Where a negative answer has no SOA record (RFC 2308 5 leaves it to the resolver).
NEGATIVE_TTL = 5.0
# Queries of a worker at once.
MOST_QUERIES = 64

# RFC 2782: the target of a record that says there is no such service here.
_NO_SERVICE = "."

Server = tuple[str, int]


class Resolver:
    """`servers` as (address, port); without them those of /etc/resolv.conf."""

    def __init__(self, servers: Sequence[Server] = (), hosts: HostsFile | None = None, resolv_conf: Path = RESOLV_CONF) -> None:
        self._servers = tuple(servers)
        self._hosts = hosts or HostsFile()
        self._resolv_conf = resolv_conf
        self._read_at: tuple[int, int] | None = None
        self._stub: dns.asyncresolver.Resolver | None = None
        self._gate = asyncio.Semaphore(MOST_QUERIES)

    async def addresses(self, name: str) -> Answer:
        """Raises ResolveError."""
        known = self._hosts.find(name)
        if known:
            return Answer(tuple(sorted(Endpoint(address) for address in known)), HOSTS_TTL)
        found = await self._ask(name, dns.rdatatype.A)
        if not found.endpoints:
            other = await self._ask(name, dns.rdatatype.AAAA)
            found = other if other.endpoints else Answer((), min(found.ttl, other.ttl))
        return found

    async def service(self, name: str) -> Answer:
        """Raises ResolveError."""
        if self._hosts.find(name):
            return await self.addresses(name)
        records = await self._ask(name, dns.rdatatype.SRV)
        if not records.endpoints:
            return await self.addresses(name)
        # One target that cannot be told now makes the whole answer unknown: half a service would get all the traffic.
        answers = await asyncio.gather(*(self.addresses(record.address) for record in records.endpoints))
        endpoints = [
            Endpoint(
                found.address,
                record.port,
                record.address.rstrip("."),
                max(1, record.weight // len(answer.endpoints)),
                record.priority,
            )
            for record, answer in zip(records.endpoints, answers, strict=True)
            for found in answer.endpoints
        ]
        return Answer(tuple(sorted(endpoints)), min([records.ttl, *(answer.ttl for answer in answers)]))

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> Answer:
        try:
            async with self._gate:
                found = await self._resolver().resolve(name, kind, search=True, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN as error:
            responses: dict[object, dns.message.Message] = error.responses()  # type: ignore[no-untyped-call]  # it has no types
            return Answer((), min(map(_negative_ttl, responses.values()), default=NEGATIVE_TTL))
        except dns.exception.DNSException as error:
            raise ResolveError(_words(error)) from error
        except (OSError, UnicodeError) as error:
            raise ResolveError(str(error)) from error
        if found.rrset is None:
            return Answer((), _negative_ttl(found.response))
        endpoints = tuple(sorted(endpoint for endpoint in map(_endpoint, found.rrset) if endpoint.address != _NO_SERVICE))
        return Answer(endpoints, float(found.chaining_result.minimum_ttl))

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """Made anew when /etc/resolv.conf has changed."""
        stamp = None if self._servers else _stamp(self._resolv_conf)
        if self._stub is None or stamp != self._read_at:
            self._stub, self._read_at = self._made(), stamp
        return self._stub

    def _made(self) -> dns.asyncresolver.Resolver:
        stub = dns.asyncresolver.Resolver(configure=False)
        if not self._servers or self._resolv_conf.exists():
            try:
                # The search list counts also where the servers are given.
                stub.read_resolv_conf(str(self._resolv_conf))
            except (dns.exception.DNSException, OSError) as error:
                if not self._servers:
                    raise ResolveError(f"{self._resolv_conf}: {error}") from error
        if self._servers:
            stub.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in self._servers]
        stub.timeout, stub.lifetime = SERVER_SECONDS, LIFETIME_SECONDS
        return stub


def servers_of(texts: Sequence[str]) -> tuple[Server, ...]:
    """Of `ADDRESS:PORT` with an IPv6 address in brackets."""
    parts = (text.rpartition(":") for text in texts)
    return tuple((host.removeprefix("[").removesuffix("]"), int(port)) for host, _, port in parts)


def _endpoint(record: object) -> Endpoint:
    if isinstance(record, SRV):
        return Endpoint(record.target.to_text(), record.port, weight=max(1, record.weight), priority=record.priority)
    assert isinstance(record, A | AAAA)
    return Endpoint(str(record.address))


def _negative_ttl(response: dns.message.Message) -> float:
    """RFC 2308 5: the lesser of the SOA record's TTL and its minimum."""
    if not isinstance(response, dns.message.QueryMessage) or not response.authority:
        return NEGATIVE_TTL
    return float(response.resolve_chaining().minimum_ttl)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _words(error: dns.exception.DNSException) -> str:
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return f"no DNS server answered within {LIFETIME_SECONDS:g} s"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
