"""The nodes with names of a worker's upstreams: which addresses they stand for now.

The law: a name that was never answered stays as it is, and connecting looks it up beside the loop; from its first answer on
its addresses are the nodes, each with the weight of the name. A node that has gone gets no new request, and its connections
close as they become idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from data_plane.config.snapshot import Node, ServiceNode
from data_plane.dns.names import Asked, Names, Question

if TYPE_CHECKING:
    from data_plane.dns.answer import Endpoint


class NamedNodes:
    """The NodeAddresses of an upstream, over all of its versions."""

    __slots__ = ("_changed", "_names", "_shown", "questions")

    def __init__(self, names: Names) -> None:
        self._names = names
        self._changed: Callable[[], None] | None = None
        self._shown: frozenset[bytes] = frozenset()
        self.questions: frozenset[Question] = frozenset()

    def resolved(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        found = tuple(resolved for node in nodes for resolved in self._resolve(node))
        self._shown = frozenset(node.key for node in found)
        return found

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def refresh(self) -> frozenset[bytes]:
        """The keys of nodes that have gone."""
        before = self._shown
        if self._changed is not None:
            self._changed()
        return before - self._shown

    def _resolve(self, node: Node) -> Iterator[Node]:
        question = question_of(node)
        endpoints = None if question is None else self._names.find(question)
        if endpoints is None:
            # A service without a port cannot be connected to before its records are known.
            if node.port:
                yield node
            return
        for endpoint in endpoints:
            yield node_at(node, endpoint)


class DnsService:
    """The `addresses` of Watchers. `retire` is told the keys of nodes that have gone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, asked: Asked, retire: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._retire = retire
        self._names = Names(asked, self._answered)
        self._upstreams: dict[str, NamedNodes] = {}
        self._due = False

    def __repr__(self) -> str:
        return f"<DnsService upstreams={len(self._upstreams)} {self._names!r}>"

    def addresses(self, upstream: str, nodes: tuple[Node, ...]) -> NamedNodes | None:
        questions = frozenset(question for node in nodes if (question := question_of(node)) is not None)
        if not questions:
            self.forget(upstream)
            return None
        named = self._upstreams.get(upstream)
        if named is None:
            named = self._upstreams[upstream] = NamedNodes(self._names)
        named.questions = questions
        self._follow_soon()
        return named

    def forget(self, upstream: str) -> None:
        if self._upstreams.pop(upstream, None) is not None:
            self._follow_soon()

    async def close(self) -> None:
        self._due = True
        await self._names.close()

    def _follow_soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._follow)

    def _follow(self) -> None:
        self._due = False
        upstreams = tuple(self._upstreams.values())
        self._names.follow({question for named in upstreams for question in named.questions})

    def _answered(self, question: Question) -> None:
        gone: set[bytes] = set()
        for named in tuple(self._upstreams.values()):
            if question in named.questions:
                gone |= named.refresh()
        for key in gone:
            self._retire(key)


def question_of(node: Node) -> Question | None:
    """None for a node that has an address."""
    if isinstance(node, ServiceNode):
        return Question(node.host, service=True)
    try:
        ip_address(node.host)
    except ValueError:
        return Question(node.host)
    return None


def node_at(node: Node, endpoint: Endpoint) -> Node:
    """A node's name at one of its addresses."""
    default = node.default_port if isinstance(node, ServiceNode) else 0
    host, port = endpoint.name or node.host, node.port or endpoint.port or default
    authority = node.authority
    if isinstance(node, ServiceNode):
        authority = (host if port == default else f"{host}:{port}").encode()
    return Node(
        host,
        port,
        endpoint.weight or node.weight,
        authority,
        priority=node.priority - endpoint.priority,
        address=endpoint.address,
        key=b"%b#%b#%b#%d" % (node.key, host.encode(), endpoint.address.encode(), port),
    )
