"""Who a request comes from, as far as the gateway knows: a consumer, told by what it has authenticated itself with.

The law: a plugin that tells consumers looks one up in its table and attaches it to the request (`Request.attach_consumer`).
The table is kept by the worker, by the key that the plugin's `consumer_key` finds in what a consumer says of itself; a change
of one consumer changes one entry. A dict compares keys only where all 64 bits of their salted hashes are equal, so the time of
a look-up tells nothing about how much of a key was right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from shared.plugin.head import value_bytes

# What the upstream is told; no client can say it (data_plane/http/head.py).
CONSUMER_HEADERS: Final = ("X-Consumer-Username", "X-Credential-Identifier", "X-Consumer-Custom-ID")
# The label whose value the upstream gets as the consumer's id in the operator's own books.
CUSTOM_ID: Final = "custom_id"


@dataclass(frozen=True, slots=True, eq=False)
class Consumer:
    """`auth` is an instance of the authenticating plugin's `Consumer` model, None for an anonymous consumer. `credential_id` is
    that of the credential that was used, None when the key is the consumer's own. `brings`: what the worker adds to the plugins
    of routes for this consumer, None for nothing. `lines` are the header lines for the upstream, each ended by CR LF.
    """

    username: str
    credential_id: str | None = None
    group_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    auth: Any = field(default=None, repr=False)
    brings: object = field(default=None, repr=False)
    lines: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = (self.username, self.credential_id, self.custom_id)
        said = ((name, value) for name, value in zip(CONSUMER_HEADERS, values, strict=True) if value)
        lines = b"".join(b"%b: %b\r\n" % (name.encode(), value_bytes(value)) for name, value in said)
        object.__setattr__(self, "lines", lines)

    @property
    def custom_id(self) -> str | None:
        return self.labels.get(CUSTOM_ID)


class ConsumerTable(Protocol):
    """The consumers that one plugin knows; it changes with the configuration."""

    def get(self, key: str) -> Consumer | None:
        """Whose key this is."""

    def named(self, username: str) -> Consumer | None:
        """By name, for requests that did not authenticate themselves: `auth` is None."""
