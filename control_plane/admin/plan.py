"""The conditions under which a check's verdict stays true, and what has to be written with it."""

from __future__ import annotations

from dataclasses import dataclass

from shared.store.contract import Delete, Expect, Put


@dataclass(frozen=True, slots=True)
class Plan:
    expect: tuple[Expect, ...] = ()
    operations: tuple[Put | Delete, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        """What both say counts once: etcd takes no key twice in one transaction."""
        expect = dict.fromkeys(self.expect + other.expect)
        return Plan(tuple(expect), tuple(dict.fromkeys(self.operations + other.operations)))
