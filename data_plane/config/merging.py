"""Where a route's plugins and those that its consumer brings become one.

The law: a route on which requests are authenticated has a last step of the rewrite phase that nobody configured: it looks
whether the consumer brings plugins, and if so the request goes on with these in the place of the route's own of the same
name, and with the rest of the route's. Plugins of global rules run besides, and nobody replaces them. Only what the route did
not have has its rewrite phase then; auth plugins are never brought.

What comes out of a route and a consumer is made when it is first needed, and kept for as many consumers as MOST.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast
from weakref import WeakKeyDictionary

from data_plane.config.brought import Brings, Brought
from data_plane.config.snapshot import Binding, NativeBinding
from shared.plugin.plugin import AnyPlugin, Phase
from shared.plugin.program import Bound, compile_rest
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.plugin.switch import Switch

# Merged programs that a route keeps; each is a few hundred bytes for a plugin of the route.
MOST = 1024
# After every other.
LAST = -(2**31) - 1
_REWRITE: frozenset[Phase] = frozenset({"rewrite"})
_GROUP_MISSING = Reply(503, {"error_msg": "the consumer's group is not there"})


class Merge:
    """Stands among a route's plugins. `bindings` are the others, in order."""

    name = "consumer"
    priority = LAST
    kind = ""
    changes_method = False
    switches = True

    def __init__(self, bindings: tuple[Binding, ...]) -> None:
        self._bindings = bindings
        self._own = frozenset(binding.name for binding in bindings if not _is_global(binding))
        self._merged: WeakKeyDictionary[Brought, Switch] = WeakKeyDictionary()

    def rewrite(self, request: Request) -> Switch | Reply | None:
        own = request.own
        if own is None or own.consumer is None or own.consumer.brings is None:
            return None
        brought = cast("Brings", own.consumer.brings).resolve()
        if brought is None:
            return _GROUP_MISSING
        return self._merged.get(brought) or self._merge(brought)

    def _merge(self, brought: Brought) -> Switch:
        kept = (each for each in self._bindings if _is_global(each) or each.name not in brought.names)
        bindings = merged_order((*kept, *brought.bindings))
        fresh = frozenset(binding.name for binding in brought.bindings) - self._own
        natives = [binding for binding in bindings if isinstance(binding, NativeBinding)]
        program = None
        if len(natives) == len(bindings):
            rewriting = [each.bound for each in natives if each.name in fresh and not _is_global(each)]
            program = compile_rest([each.bound for each in natives], rewriting)
        while len(self._merged) >= MOST:
            del self._merged[next(iter(self._merged.keys()))]
        switch = self._merged[brought] = Switch(program, bindings, fresh)
        return switch


def _is_global(binding: Binding) -> bool:
    return binding.owner.startswith("global_rule/")


def merged_order(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """In each phase those of global rules come first, then the higher priority."""
    return tuple(sorted(bindings, key=lambda each: (not _is_global(each), -each.priority, each.owner, each.name)))


def authenticates(bindings: Iterable[Binding]) -> bool:
    return any(isinstance(each, NativeBinding) and each.bound.plugin.kind == "auth" for each in bindings)


def merge_binding(owner: str, bindings: tuple[Binding, ...], before: Iterable[Binding]) -> NativeBinding:
    """The step for a route with these plugins; the one that it has when nothing of them has changed."""
    for each in before:
        if isinstance(each, NativeBinding) and each.bound.plugin.switches and each.source == bindings:
            return each
    # It has all of a plugin that programs and chains use.
    step = cast("AnyPlugin", Merge(bindings))
    return NativeBinding(bindings, Bound(step, None, _REWRITE), owner, LAST)
