"""The names that this machine knows by itself: /etc/hosts, read again when it was changed, and `localhost`.

The law: what stands there is never asked of a DNS server. Of a name's addresses those of IPv4 count, and those of IPv6 where
there are no others, as with answers of DNS.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

HOSTS_FILE = Path("/etc/hosts")
# RFC 6761 6.3: a name of this machine, whatever its files say.
_LOCALHOST = ("127.0.0.1",)

Names = dict[str, tuple[str, ...]]


def parse_hosts(text: str) -> Names:
    """Lines that say nothing are passed over."""
    found: dict[str, list[IPv4Address | IPv6Address]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        try:
            address = ip_address(words[0]) if words else None
        except ValueError:
            continue
        if address is not None:
            for name in words[1:]:
                addresses = found.setdefault(name.lower().rstrip("."), [])
                if address not in addresses:
                    addresses.append(address)
    return {name: _of_one_family(addresses) for name, addresses in found.items()}


def _of_one_family(addresses: list[IPv4Address | IPv6Address]) -> tuple[str, ...]:
    old = tuple(str(address) for address in addresses if address.version == 4)
    return old or tuple(str(address) for address in addresses)


class HostsFile:
    def __init__(self, path: Path = HOSTS_FILE) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._names: Names = {}

    def find(self, name: str) -> tuple[str, ...]:
        """The addresses of a name; empty for one that DNS must know."""
        self._refresh()
        key = name.lower().rstrip(".")
        found = self._names.get(key)
        return found or (_LOCALHOST if key == "localhost" or key.endswith(".localhost") else ())

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._read_at:
                self._names = parse_hosts(self._path.read_text(encoding="utf-8", errors="replace"))
                self._read_at = stamp
        except OSError:
            self._names, self._read_at = {}, None
