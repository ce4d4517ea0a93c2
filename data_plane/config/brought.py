"""The plugins that consumers and their groups bring to every route that knows them.

The law: a plugin that is brought is made when a request first needs it, once for its consumer or group, and shared by all
routes: what it counts stays as long as its configuration. A change of a group is seen by its consumers at their next request,
and none of them is touched for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data_plane.config.natives import Natives
from data_plane.config.snapshot import NativeBinding
from shared.schema.plugins import NativeConf

Confs = Mapping[str, NativeConf]
_NO_CONFS: Confs = {}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Brought:
    """`names` are all that is brought or, by `_meta.disable`, taken out: what a route says of them does not count."""

    bindings: tuple[NativeBinding, ...]
    names: frozenset[str]


class Epoch:
    """Rises when what all plugins hang on (their metadata) has changed."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class _Maker:
    """One owner's plugins, of which what says the same is the same object."""

    __slots__ = ("_bound", "_natives", "_owner", "confs")

    def __init__(self, owner: str, confs: Confs, natives: Natives) -> None:
        self._owner = owner
        self._natives = natives
        self.confs = confs
        self._bound: dict[str, NativeBinding] = {}

    def follow(self, before: _Maker) -> None:
        self._bound = before._bound

    def bindings(self) -> dict[str, NativeBinding]:
        running = {name: conf for name, conf in self.confs.items() if not conf.meta.disable}
        bound, bind = self._bound, self._natives.bind
        self._bound = {name: bind(self._owner, name, conf, bound.get(name)) for name, conf in running.items()}
        return self._bound


class Group:
    """A consumer group by its id, whether it is there (`known`) or only named. `brings` is what consumers bring who have
    nothing of their own."""

    __slots__ = ("_maker", "_natives", "brings", "known", "version")

    def __init__(self, group_id: str, natives: Natives, epoch: Epoch) -> None:
        self._natives = natives
        self._maker = _Maker(f"consumer_group/{group_id}", _NO_CONFS, natives)
        self.known = False
        self.version = 0
        self.brings = Brings("", _NO_CONFS, self, natives, epoch)

    def put(self, confs: Confs | None) -> None:
        """None: it is deleted."""
        self.known = confs is not None
        self.version += 1
        self._maker.confs = confs or _NO_CONFS

    @property
    def confs(self) -> Confs:
        return self._maker.confs

    def bindings(self) -> dict[str, NativeBinding]:
        return self._maker.bindings()


class Brings:
    """What one consumer brings, its group's included; `Consumer.brings`."""

    __slots__ = ("_brought", "_epoch", "_group", "_maker", "_seen", "owner")

    def __init__(self, owner: str, confs: Confs, group: Group | None, natives: Natives, epoch: Epoch) -> None:
        self.owner = owner
        self._group = group
        self._epoch = epoch
        self._maker = _Maker(owner, confs, natives)
        self._brought: Brought | None = None
        self._seen = (-1, -1)

    def follow(self, before: Brings) -> None:
        """The same consumer's, as it was: its plugins may stay."""
        self._maker.follow(before._maker)

    def resolve(self) -> Brought | None:
        """As of now; the same object while nothing changes. None when the group is not there."""
        group = self._group
        now = (self._epoch.number, 0 if group is None else group.version)
        if self._seen != now:
            self._seen = now
            self._brought = None if group is not None and not group.known else self._resolved(group)
        return self._brought

    def _resolved(self, group: Group | None) -> Brought:
        own = self._maker
        names = frozenset(own.confs) if group is None else frozenset((*own.confs, *group.confs))
        theirs = {} if group is None else {name: one for name, one in group.bindings().items() if name not in own.confs}
        return Brought((*theirs.values(), *own.bindings().values()), names)
