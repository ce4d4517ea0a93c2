"""What is done to the containers, one after the other, and what that may cost.

The law: one row for each fault of a service; a fault is undone before the next one comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from tests.cluster.engine import Cluster, Container

Act = Callable[[Cluster, Container], Awaitable[object]]


class Cost(Enum):
    """Which requests may fail."""

    NONE = "none"
    # Those that were in flight when it happened.
    IN_FLIGHT = "what was in flight"
    # And those that may not be repeated, until the gateway's health checks have noticed that nobody answers.
    UNTIL_NOTICED = "POSTs to a silent server"
    # The one door of this cluster.
    THE_DOOR = "not the gateway's"


@dataclass(frozen=True, slots=True)
class Fault:
    """`changes`: whether the configuration is changed while it lasts; a data plane that is hurt is not asked for it then."""

    name: str
    hurt: Act
    heal: Act
    cost: Cost
    changes: bool = True


def _docker(verb: str, *options: str) -> Act:
    return lambda cluster, container: cluster.docker(verb, *options, container.id)


def _cut_off(network: str, cost: Cost, changes: bool = True) -> Fault:
    return Fault(
        f"cut off from {network}",
        lambda cluster, container: cluster.network("disconnect", network, container),
        lambda cluster, container: cluster.network("connect", network, container),
        cost,
        changes,
    )


def _killed(cost: Cost, changes: bool = True) -> Fault:
    return Fault("kill -9", _docker("kill"), _docker("start"), cost, changes)


def _paused(cost: Cost, changes: bool = True) -> Fault:
    return Fault("paused", _docker("pause"), _docker("unpause"), cost, changes)


FAULTS: dict[str, tuple[Fault, ...]] = {
    "data-plane": (
        _killed(Cost.IN_FLIGHT),
        _paused(Cost.NONE),
        _cut_off("front", Cost.IN_FLIGHT),
        _cut_off("store", Cost.NONE),
    ),
    "control-plane": (_killed(Cost.NONE), _paused(Cost.NONE), _cut_off("store", Cost.NONE), _cut_off("admin", Cost.NONE)),
    **{f"etcd-{n}": (_killed(Cost.NONE), _paused(Cost.NONE), _cut_off("store", Cost.NONE)) for n in (1, 2, 3)},
    **{
        f"upstream-{n}": (
            _killed(Cost.IN_FLIGHT),
            _paused(Cost.UNTIL_NOTICED),
            _cut_off("upstreams", Cost.UNTIL_NOTICED),
        )
        for n in (1, 2)
    },
    "prometheus": (_killed(Cost.NONE),),
    "balancer": (_killed(Cost.THE_DOOR, changes=False),),
}


async def leader(cluster: Cluster) -> Container:
    """The member of etcd that leads now."""
    for number in (1, 2, 3):
        (member,) = await cluster.containers(f"etcd-{number}")
        said = await cluster.docker("exec", member.id, "etcdctl", "endpoint", "status", "--write-out=fields")
        fields = dict(line.split(" : ", 1) for line in said.splitlines() if " : " in line)
        if fields['"MemberID"'] == fields['"Leader"']:
            return member
    raise LookupError("no member of etcd leads")
