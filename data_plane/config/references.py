"""Which resources are built from which: the reverse index that keeps a small change small.

The law: an edge goes from the resource that names (a route) to the resource named (its service); whatever reaches a
changed resource over these edges has to be looked at again, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from data_plane.routing.steps import Steps
from shared.keys import ResourceKey

_NOTHING: frozenset[ResourceKey] = frozenset()


class References:
    __slots__ = ("_named", "_naming")

    def __init__(self) -> None:
        self._named: dict[ResourceKey, Set[ResourceKey]] = {}
        self._naming: dict[ResourceKey, set[ResourceKey]] = {}

    def point(self, source: ResourceKey, targets: Set[ResourceKey]) -> None:
        """From now on `source` names exactly `targets`, which need not exist."""
        before = self._named.get(source, _NOTHING)
        for target in before - targets:
            sources = self._naming[target]
            sources.discard(source)
            if not sources:
                del self._naming[target]
        for target in targets - before:
            self._naming.setdefault(target, set()).add(source)
        if targets:
            self._named[source] = targets
        else:
            self._named.pop(source, None)

    def naming(self, target: ResourceKey) -> Set[ResourceKey]:
        """The resources that name `target` themselves."""
        return self._naming.get(target, _NOTHING)

    def reaching(self, targets: Iterable[ResourceKey]) -> Steps[set[ResourceKey]]:
        """`targets` and everything that names one of them, directly or over others."""
        found: set[ResourceKey] = set()
        waiting: list[ResourceKey] = []
        for target in targets:
            found.add(target)
            waiting.append(target)
            yield
        while waiting:
            for source in self._naming.get(waiting.pop(), _NOTHING):
                if source not in found:
                    found.add(source)
                    waiting.append(source)
                yield
            yield
        return found
