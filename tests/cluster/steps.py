"""The run: steps under load, each with what it may cost.

The law: a step ends when the cluster is whole again and has taken a change everywhere, so each begins from the same state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.cluster.configuration import Configuration, until
from tests.cluster.engine import Cluster, Container
from tests.cluster.faults import FAULTS, Cost, Fault, leader

# How long a fault lasts, and how long nothing happens before one.
FAULT_SECONDS = 5.0
CALM_SECONDS = 1.0
# A container that was started again is well after this, on a machine that is busy with all of them.
WELL_SECONDS = 120.0


@dataclass(slots=True)
class Step:
    """Times are the loop's. `during` and `after`: seconds in which a change was taken and arrived, while the fault lasted and
    when it was over."""

    name: str
    began: float
    cost: Cost = Cost.NONE
    hurt_began: float = 0.0
    hurt_ended: float = 0.0
    ended: float = 0.0
    during: tuple[float, float] | None = None
    after: tuple[float, float] | None = None


@dataclass(slots=True)
class Run:
    cluster: Cluster
    configuration: Configuration
    tell: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)

    async def all(self, only: str) -> None:
        """Those whose names begin with `only`."""
        for number in (4, 2):
            if f"scale to {number}".startswith(only):
                await self._scale(number)
        for service, faults in FAULTS.items():
            for fault in faults:
                if service.startswith(only):
                    await self._hurt_all(service, fault)
        if "etcd".startswith(only):
            await self._restart("etcd: its leader restarts", [await leader(self.cluster)])
            members = [(await self.cluster.containers(f"etcd-{number}"))[0] for number in (1, 2, 3)]
            await self._restart("etcd: all members restart at once", members)

    async def _scale(self, number: int) -> None:
        async with self._step(f"scale to {number} data planes") as step:
            step.hurt_began = asyncio.get_running_loop().time()
            await self.cluster.scale(number, "--no-recreate")
            await self._well(await self.cluster.containers("data-plane"))
            step.hurt_ended = asyncio.get_running_loop().time()

    async def _hurt_all(self, service: str, fault: Fault) -> None:
        containers = await self.cluster.containers(service)
        for container in containers:
            who = service if len(containers) == 1 else str(container)
            async with self._step(f"{who}: {fault.name}", fault.cost) as step:
                await self._hurt(container, fault, step)

    async def _hurt(self, container: Container, fault: Fault, step: Step) -> None:
        loop = asyncio.get_running_loop()
        step.hurt_began = loop.time()
        await fault.hurt(self.cluster, container)
        step.hurt_ended = loop.time()
        try:
            if fault.changes:
                step.during = await self.configuration.change(but=[container])
            await asyncio.sleep(step.hurt_ended + FAULT_SECONDS - loop.time())
        finally:
            await fault.heal(self.cluster, container)
        await self._well([container])

    async def _restart(self, name: str, members: Collection[Container]) -> None:
        async with self._step(name) as step:
            step.hurt_began = asyncio.get_running_loop().time()
            await self.cluster.docker("restart", "--time=5", *(member.id for member in members))
            step.hurt_ended = asyncio.get_running_loop().time()
            await self._well(members)

    @asynccontextmanager
    async def _step(self, name: str, cost: Cost = Cost.NONE) -> AsyncIterator[Step]:
        loop = asyncio.get_running_loop()
        step = Step(name, loop.time(), cost)
        self.steps.append(step)
        await asyncio.sleep(CALM_SECONDS)
        yield step
        step.after = await self.configuration.change()
        step.ended = loop.time()
        self.tell(f"{name}: {step.ended - step.began:.0f} s")

    async def _well(self, containers: Collection[Container]) -> None:
        """Until the health check of each says so."""
        for container in containers:

            async def look(id: str = container.id) -> bool:
                return (await self.cluster.docker("inspect", "--format={{.State.Health.Status}}", id)).strip() == "healthy"

            await until(look, f"{container} is well", seconds=WELL_SECONDS)
