"""Consumers, their credentials and their groups, out of the raw tables into the index that auth plugins look into.

The law: a change of a consumer or of one of its credentials compiles this consumer anew and no other; a change of a group
touches its slot only, whatever the number of its consumers. A credential whose consumer is not there says nothing. What changes
is worked out first and becomes visible at once, together with the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from data_plane.config.brought import Brings, Epoch, Group
from data_plane.config.consumer_index import ConsumerIndex
from data_plane.config.natives import Natives
from data_plane.config.tables import Tables
from data_plane.routing.steps import Steps
from shared.keys import Kind
from shared.plugin.consumer import Consumer
from shared.schema.consumer import AuthPart, BroughtConf, ConsumerGroupSpec, ConsumerSpec, CredentialSpec
from shared.schema.plugins import NativeConf


class Claim(NamedTuple):
    """A key of a consumer, for a plugin."""

    plugin: str
    key: str
    consumer: Consumer


class User(NamedTuple):
    """One consumer as it is served: itself without authentication, what it brings, and its keys."""

    anonymous: Consumer
    brings: Brings | None
    claims: tuple[Claim, ...]


class Consumers:
    """`index` is what the plugins of this worker ask."""

    __slots__ = ("_credentials", "_epoch", "_groups", "_index", "_natives", "_tables", "_users")

    def __init__(self, tables: Tables, index: ConsumerIndex, natives: Natives) -> None:
        self._tables = tables
        self._index = index
        self._natives = natives
        self._users: dict[str, User] = {}
        self._credentials: dict[str, dict[str, None]] = {}
        self._groups: dict[str, Group] = {}
        self._epoch = Epoch()

    def prepare(self, touched: Mapping[Kind, Sequence[str]]) -> Steps[Callable[[], None]]:
        """Returns what makes the change visible: the ids that may be new, other or gone, by kind."""
        names = dict.fromkeys(touched["consumers"])
        for credential_id in touched["credentials"]:
            names[self._note_credential(credential_id)] = None
            yield
        fresh: dict[str, User | None] = {}
        for name in names:
            fresh[name] = self._compiled(name)
            yield
        groups = {id: self._tables.get(ConsumerGroupSpec, "consumer_groups", id) for id in touched["consumer_groups"]}
        new_epoch = bool(touched["plugin_metadata"])

        def apply() -> None:
            self._epoch.number += new_epoch
            for group_id, spec in groups.items():
                self._group(group_id).put(None if spec is None else spec.plugins)
            for name, user in fresh.items():
                self._replace(name, user)

        return apply

    def _note_credential(self, credential_id: str) -> str:
        """The name of its consumer."""
        name, _, own_id = credential_id.partition("/")
        if self._tables.get(CredentialSpec, "credentials", credential_id) is not None:
            self._credentials.setdefault(name, {})[own_id] = None
        else:
            ids = self._credentials.get(name, {})
            ids.pop(own_id, None)
            if not ids:
                self._credentials.pop(name, None)
        return name

    def _compiled(self, name: str) -> User | None:
        spec = self._tables.get(ConsumerSpec, "consumers", name)
        if spec is None:
            return None
        brings = self._brings(name, spec)
        labels = spec.labels or {}
        anonymous = Consumer(name, None, spec.group_id, labels, None, brings)
        claims = [
            Claim(part.plugin.name, part.key, Consumer(name, None, spec.group_id, labels, part.value, brings))
            for part in _parts(spec.plugins)
        ]
        for own_id in self._credentials.get(name, ()):
            credential = self._tables.get(CredentialSpec, "credentials", f"{name}/{own_id}")
            if credential is not None:
                claims += [
                    Claim(part.plugin.name, part.key, Consumer(name, own_id, spec.group_id, labels, part.value, brings))
                    for part in _parts(credential.plugins)
                ]
        return User(anonymous, brings, tuple(claims))

    def _brings(self, name: str, spec: ConsumerSpec) -> Brings | None:
        group = None if spec.group_id is None else self._group(spec.group_id)
        own = {name: conf for name, conf in spec.plugins.items() if isinstance(conf, NativeConf)}
        if not own:
            return None if group is None else group.brings
        brings = Brings(f"consumer/{name}", own, group, self._natives, self._epoch)
        before = self._users.get(name)
        # A group's is shared.
        if before is not None and before.brings is not None and before.brings.owner == brings.owner:
            brings.follow(before.brings)
        return brings

    def _group(self, group_id: str) -> Group:
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = Group(group_id, self._natives, self._epoch)
        return group

    def _replace(self, name: str, user: User | None) -> None:
        before = self._users.pop(name, None)
        for claim in () if before is None else before.claims:
            self._index.table(claim.plugin).remove(claim.key, claim.consumer)
        if user is None:
            self._index.names.pop(name, None)
            return
        self._users[name] = user
        self._index.names[name] = user.anonymous
        for claim in user.claims:
            self._index.table(claim.plugin).add(claim.key, claim.consumer)


def _parts(plugins: Mapping[str, BroughtConf]) -> Iterable[AuthPart]:
    return (conf for conf in plugins.values() if isinstance(conf, AuthPart))
