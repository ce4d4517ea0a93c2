"""What a proxy is asked to do beside proxying: the plugins that it runs, and the resource that is asked for.

The law: Envoy and Waspgate run the same bytes of a module, each as often as the work says, each with a context of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.bench.tools import MODULE
from tests.support.guest import build

# As in the table of docs/architecture.md. One thread drives them: proxy, upstream and client share two cores.
CONNECTIONS = 32

GUESTS = Path(__file__).with_name("guests")


@dataclass(frozen=True, slots=True)
class Work:
    """`suffix` makes the proxy's name, `label` its heading; `guest` is a source in guests/, or `headers` of plugins/c."""

    suffix: str = ""
    label: str = ""
    guest: str = ""
    plugins: int = 0
    resource: str = "item"
    tls: bool = False
    h2: bool = False
    connections: int = CONNECTIONS

    def module(self) -> bytes:
        if self.guest == "headers":
            return MODULE.read_bytes()
        # As plugins are built for use.
        return build((GUESTS / f"{self.guest}.c").read_text(), flags=["-O2"])


PLAIN = Work()
HEADERS = Work("-plugin", ", plugin", "headers", 1)
HEADERS_3 = Work("-plugins-3", ", 3 plugins", "headers", 3)
HEADERS_10 = Work("-plugins-10", ", 10 plugins", "headers", 10)
BODY = Work("-body", ", body plugin", "body", 1, "big")
CALLOUT = Work("-callout", ", callout", "callout", 1)
TLS = Work("-tls", ", TLS", tls=True)
H2 = Work("-h2", ", HTTP/2", h2=True)
BODY_64K = Work("-64k", ", 64 KiB", resource="64k")
# As many as keep two cores busy with megabytes, and no more of them in memory.
BODY_10M = Work("-10m", ", 10 MiB", resource="10m", connections=8)
MANY_CONNECTIONS = Work("-1000-connections", ", 1,000 connections", connections=1000)
WORKS = (PLAIN, HEADERS, HEADERS_3, HEADERS_10, BODY, CALLOUT, TLS, H2, BODY_64K, BODY_10M, MANY_CONNECTIONS)
