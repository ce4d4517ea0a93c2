"""The names that a worker follows: each is asked for again when its answer is due, and whoever uses it hears of changes.

The law: while nobody can tell, the last answer stays; that a name does not exist is an answer. A name is followed as long as
somebody uses it, once for all who do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from data_plane.dns.answer import Answer, Endpoint, ResolveError

log = structlog.get_logger("dns")

# A TTL of 0 means: do not keep it; to ask for every request would be to wait in every request.
LEAST_SECONDS = 1.0
# A change of /etc/hosts, or of a record that was meant to stay, is seen within an hour.
MOST_SECONDS = 3600.0
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Question:
    name: str
    service: bool = False


class Asked(Protocol):
    """resolver.py has the one that asks DNS."""

    async def addresses(self, name: str) -> Answer: ...

    async def service(self, name: str) -> Answer: ...


class Names:
    """`changed` is told which question has other endpoints now."""

    def __init__(self, asked: Asked, changed: Callable[[Question], None]) -> None:
        self._asked = asked
        self._changed = changed
        self._known: dict[Question, tuple[Endpoint, ...]] = {}
        self._tasks: dict[Question, asyncio.Task[None]] = {}
        self._wanted: frozenset[Question] = frozenset()

    def __repr__(self) -> str:
        return f"<Names followed={len(self._tasks)} known={len(self._known)}>"

    def find(self, question: Question) -> tuple[Endpoint, ...] | None:
        """None while nothing was ever answered."""
        return self._known.get(question)

    def follow(self, wanted: Collection[Question]) -> None:
        """From now on these and no others."""
        self._wanted = frozenset(wanted)
        for question in self._tasks.keys() - self._wanted:
            self._tasks.pop(question).cancel()
            self._known.pop(question, None)
        for question in self._wanted - self._tasks.keys():
            task = self._tasks[question] = asyncio.create_task(self._run(question), name=f"resolve {question.name}")
            task.add_done_callback(partial(self._ended, question))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self.follow(())
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, question: Question, task: asyncio.Task[None]) -> None:
        """By a mistake of ours: the last answer stays, and a later look may do better."""
        if task.cancelled():
            return
        log.error("following a name failed", name=question.name, exc_info=task.exception())
        if self._tasks.get(question) is task:
            del self._tasks[question]
            asyncio.get_running_loop().call_later(LAST_RETRY_SECONDS, self._again)

    def _again(self) -> None:
        self.follow(self._wanted)

    async def _run(self, question: Question) -> None:
        retry = FIRST_RETRY_SECONDS
        failed = False
        while True:
            try:
                ask = self._asked.service if question.service else self._asked.addresses
                answer = await ask(question.name)
            except ResolveError as error:
                if not failed:
                    known = self._known.get(question)
                    log.warning("name cannot be resolved", name=question.name, reason=str(error), keeps=_shown(known or ()))
                failed = True
                await asyncio.sleep(retry)
                retry = min(retry * 2, LAST_RETRY_SECONDS)
                continue
            if failed:
                log.info("name can be resolved again", name=question.name)
            failed, retry = False, FIRST_RETRY_SECONDS
            self._take(question, answer)
            await asyncio.sleep(min(max(answer.ttl, LEAST_SECONDS), MOST_SECONDS))

    def _take(self, question: Question, answer: Answer) -> None:
        before = self._known.get(question)
        if before == answer.endpoints:
            return
        self._known[question] = answer.endpoints
        if not answer.endpoints:
            log.warning("name has no addresses", name=question.name)
        elif before is not None:
            log.info("name has other addresses", name=question.name, addresses=_shown(answer.endpoints))
        self._changed(question)


def _shown(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [f"{endpoint.address}:{endpoint.port}" if endpoint.port else endpoint.address for endpoint in endpoints]
