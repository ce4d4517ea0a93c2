"""What was last written as a whole configuration: under which name, and as which versions of its sections.

The law: the record lies in the transaction that it is about (of a batch, in the last), so an object of a later revision, or
another number of objects, tells that the configuration is not that one any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from control_plane.admin.checks import Plan
from control_plane.admin.configs import Present
from control_plane.admin.draft import Draft
from shared.keys import CONFIGS_KEY, KINDS, Kind
from shared.schema.document import decode, encode
from shared.store.contract import Expect, Put


@dataclass(frozen=True, slots=True)
class Record:
    """`revision` is that of the record, 0 when there was none; `count` the objects that there were after it."""

    digest: str = ""
    count: int = 0
    time: int = 0
    versions: Mapping[Kind, int] = field(default_factory=dict)
    revision: int = 0

    def describes(self, present: Present) -> bool:
        newest = max((present.newest(kind) for kind in KINDS), default=0)
        return bool(self.revision) and newest <= self.revision and len(present.objects) == self.count

    def version(self, kind: Kind, present: Present) -> int:
        """Of a section that somebody else has changed since: a greater one."""
        known, newest = self.versions.get(kind, 0), present.newest(kind)
        return known if newest <= self.revision else max(known + 1, newest)

    def replaced_by(self, digest: str, count: int, time: int, versions: Mapping[Kind, int]) -> Plan:
        value = {"digest": digest, "count": count, "time": time, "versions": dict(versions)}
        return Plan((Expect(CONFIGS_KEY, self.revision),), (Put(CONFIGS_KEY, encode(value)),))


async def read_record(draft: Draft) -> Record:
    entry = await draft.stored(CONFIGS_KEY)
    return Record() if entry is None else Record(**decode(entry.value), revision=entry.mod_revision)
