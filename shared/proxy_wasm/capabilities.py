"""Which functions a plugin may use and which of its callbacks are called: an allow-list of the ABI's names.

The law: it is applied when a plugin is linked, so it costs no call anything. As in Envoy, a host function that is not allowed
answers InternalFailure, one of WASI NOTCAPABLE, and a callback that is not allowed is as if it were not exported. A list
restricts only the kinds that it names something of: one of host functions alone leaves callbacks and WASI as they are.
"""

from __future__ import annotations

from typing import Final

from shared.proxy_wasm.abi import CALLBACKS, HOST_FUNCTIONS, WASI_FUNCTIONS

KINDS: Final = (frozenset(HOST_FUNCTIONS), frozenset(CALLBACKS), frozenset(WASI_FUNCTIONS))
CAPABILITIES: Final = frozenset().union(*KINDS)


def denied(allowed: frozenset[str] | None) -> frozenset[str]:
    """The names of the ABI that a plugin with this list has to do without; None allows everything."""
    if allowed is None:
        return frozenset()
    return frozenset().union(*(kind - allowed for kind in KINDS if kind & allowed))
