"""A configuration that tests write like an operator does and compile like a worker does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from data_plane.config.compiler import Compiler
from data_plane.config.snapshot import Binding, PluginBinding, Route, Snapshot
from data_plane.routing.steps import Steps, finish
from shared.keys import Kind, resource_key
from shared.store.contract import Batch, Entry, Event, Listing
from tests.support.plugin_host import RecordingHost

SHA = "0123456789abcdef" * 4
UPSTREAM = {"nodes": {"127.0.0.1:1980": 1}}


def document(value: Mapping[str, object] | bytes) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def plugin(**fields: object) -> dict[str, object]:
    """A wasm_plugins document."""
    return {"module": {"sha256": SHA}, **fields}


def conf(value: object = "on", **meta: object) -> dict[str, object]:
    """One plugin's configuration on a route."""
    return {"conf": value, "_meta": meta} if meta else {"conf": value}


def wasm(bindings: Iterable[Binding]) -> list[PluginBinding]:
    """The Wasm plugins among them."""
    return [binding for binding in bindings if isinstance(binding, PluginBinding)]


class Config:
    """Entries with revisions, and the compiler that follows them. `unusable`: plugin name -> why it cannot be made ready."""

    def __init__(self, host: RecordingHost | None = None) -> None:
        self.host = host or RecordingHost()
        self.compiler = Compiler(host=self.host, consumers=self.host.index)
        self.revision = 0
        self.entries: dict[str, Entry] = {}
        self.unusable: dict[str, str] = {}
        self._events: list[Event] = []

    def put(self, kind: Kind, id: str, value: Mapping[str, object] | bytes) -> None:
        self.revision += 1
        key = resource_key(kind, id)
        self.entries[key] = Entry(key, document(value), self.revision, self.revision)
        self._events.append(Event(key, self.revision, self.entries[key]))

    def delete(self, kind: Kind, id: str) -> None:
        self.revision += 1
        key = resource_key(kind, id)
        del self.entries[key]
        self._events.append(Event(key, self.revision, None))

    def listing(self) -> Listing:
        return Listing(self.revision, tuple(entry for _, entry in sorted(self.entries.items())))

    def commit(self) -> Snapshot:
        """What a worker serves after it has followed everything written so far."""
        snapshot = finish(self.steps())
        finish(self.compiler.let_go())
        return snapshot

    def steps(self) -> Steps[Snapshot]:
        """The same, step by step."""
        events, self._events = self._events, []
        yield from self.compiler.apply(Batch(self.revision, tuple(events)))
        return (yield from self.compiler.commit(self._prepared()))

    def reload(self) -> Snapshot:
        """The same by a listing."""
        self._events = []
        finish(self.compiler.load(self.listing()))
        snapshot = finish(self.compiler.commit(self._prepared()))
        finish(self.compiler.let_go())
        return snapshot

    def from_scratch(self) -> Snapshot:
        """What a new worker serves."""
        other = Config()
        other.entries, other.revision, other.unusable = self.entries, self.revision, self.unusable
        return other.reload()

    def route(self, id: str) -> Route:
        return self.commit().routes[id]

    def _prepared(self) -> dict[str, str]:
        needed = {plugin.name for plugin in self.compiler.begin()}
        return {name: why for name, why in self.unusable.items() if name in needed}
