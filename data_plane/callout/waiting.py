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
    if stream is not None:
        stream.before_end = _abandon_calls


def _abandon_calls(stream: HttpContext) -> None:
    owner = stream.owner
    if isinstance(owner, Link) and owner.waits:
        stream.vm.calls.abandon(stream)
