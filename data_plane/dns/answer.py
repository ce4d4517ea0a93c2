"""What is known of a name: the endpoints behind it, and for how long.

The law: an answer says where to connect or that there is nothing; a resolver that could not tell is a ResolveError and no
answer. Endpoints are in an order of their own, so that two answers with the same ones are equal.
"""

from __future__ import annotations

from dataclasses import dataclass


class ResolveError(Exception):
    """Nobody could tell; the message says why."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """`name` is what stands in front of the address (of an SRV record its target), `port` 0 where DNS tells none; `weight`
    and `priority` (the smaller, the earlier) are of SRV records."""

    address: str
    port: int = 0
    name: str = ""
    weight: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """`ttl` in seconds. No endpoints: the name does not exist or has no address."""

    endpoints: tuple[Endpoint, ...]
    ttl: float
