"""How a connection to a server of an upstream is secured, as the configuration says it.

The law: the name that a server must prove is the operator's, never one that a client sent. It is the upstream's own Host where
`pass_host` is rewrite, else the host of the node; that of a node which is an address is the address.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node


@dataclass(frozen=True, slots=True)
class ClientTls:
    """`server_name` is empty where the node's host is the name. Certificate (with its chain) and key are PEM, or empty; with a
    `certificate_id` they stand in that `ssls` object."""

    verify: bool = True
    server_name: str = ""
    certificate: str = ""
    private_key: str = field(default="", repr=False)
    certificate_id: str = ""

    def name_for(self, node: Node) -> str:
        """What is sent as SNI (unless it is an address) and looked for in the certificate."""
        return self.server_name or node.host.rstrip(".")

    def key_for(self, authority: bytes, host: str) -> bytes:
        """What a pool knows the connections by: those with other names, certificates or verification are not for this one."""
        said = "\0".join((self.server_name or host, str(self.verify), self.certificate, self.private_key, self.certificate_id))
        return b"tls#%b#%b" % (authority, hashlib.blake2b(said.encode(), digest_size=16).hexdigest().encode())


def host_of(authority: str) -> str:
    """Without port and brackets."""
    return authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]
