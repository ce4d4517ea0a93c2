"""A DNS server on loopback, over UDP and TCP on one port, whose records a test writes and changes.

The law: a name that has records, but none of the asked type, is NOERROR with an SOA record; a name without any is NXDOMAIN with
one. `fails` makes it answer SERVFAIL, `silent` nothing at all; what it was asked stands in `asked`.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

HOST = "127.0.0.1"
SOA_MINIMUM = 7


class DnsServer:
    """`records`: (name, type) -> (TTL, values). More than `udp_values` of them do not fit into a datagram."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.over_tcp = 0
        self.fails = False
        self.silent = False
        self.udp_values = 20
        self._tcp = _Tcp((HOST, 0), _TcpHandler)
        self._tcp.dns = self
        self.port: int = self._tcp.server_address[1]
        self._udp = _Udp((HOST, self.port), _UdpHandler)
        self._udp.dns = self
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.01,), name="dns") for server in (self._tcp, self._udp)
        ]
        for thread in self._threads:
            thread.start()

    def set(self, name: str, kind: str, *values: str, ttl: int = 60) -> None:
        self.records[name, kind] = (ttl, values)

    def drop(self, name: str, kind: str) -> None:
        del self.records[name, kind]

    def count(self, name: str, kind: str) -> int:
        return self.asked.count((name, kind))

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        self.over_tcp += tcp
        if self.silent:
            return None
        response = dns.message.make_response(query)
        if self.fails:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response.to_wire()
        found = self.records.get((name, kind))
        if found is None:
            if not any(known == name for known, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
            soa = f"{name}. root.{name}. 1 2 3 4 {SOA_MINIMUM}"
            response.authority.append(dns.rrset.from_text(question.name, 3600, "IN", "SOA", soa))
        elif len(found[1]) > self.udp_values and not tcp:
            response.flags |= dns.flags.TC
        else:
            response.answer.append(dns.rrset.from_text(question.name, found[0], "IN", kind, *found[1]))
        return response.to_wire()

    def close(self) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(10)


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    dns: DnsServer


class _Udp(socketserver.UDPServer):
    dns: DnsServer


class _UdpHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, sender = self.request
        assert isinstance(self.server, _Udp)
        answer = self.server.dns.answer(wire, tcp=False)
        if answer is not None:
            sender.sendto(answer, self.client_address)


class _TcpHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        assert isinstance(self.server, _Tcp)
        size = int.from_bytes(connection.recv(2, socket.MSG_WAITALL))
        answer = self.server.dns.answer(connection.recv(size, socket.MSG_WAITALL), tcp=True)
        if answer is not None:
            connection.sendall(len(answer).to_bytes(2) + answer)


@contextmanager
def dns_server() -> Iterator[DnsServer]:
    server = DnsServer()
    try:
        yield server
    finally:
        server.close()
