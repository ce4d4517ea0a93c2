"""A stream that has made a call.

The law: when it ends while its plugin still holds it back (the client has left), nobody waits for what it asked: its calls
stop, and the plugin hears that they failed. Calls of a stream that went its way are left to end by themselves, as in Envoy:
they are the plugin's own business, such as a report.
"""

from __future__ import annotations

from data_plane.plugins.link import Link
from shared.proxy_wasm.vm import HttpContext


def watch(stream: HttpContext | None) -> None:
    """From its first call on a stream is asked about its calls at its end; one that makes none never is."""
    if stream is not None and not isinstance(stream, _Calling):
        stream.__class__ = _calling(type(stream))


class _Calling(HttpContext):
    __slots__ = ()

    def finish(self) -> None:
        owner = self.owner
        if isinstance(owner, Link) and owner.waits:
            self.vm.calls.abandon(self)
        super().finish()


_KINDS: dict[type[HttpContext], type[HttpContext]] = {HttpContext: _Calling}


def _calling(kind: type[HttpContext]) -> type[HttpContext]:
    """The kind of stream that it is, with the question added."""
    calling = _KINDS.get(kind)
    if calling is None:
        calling = _KINDS[kind] = type(f"Calling{kind.__name__}", (_Calling, kind), {"__slots__": ()})
    return calling
