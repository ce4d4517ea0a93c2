"""Who is compared with whom: one table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import envoy, nginx, waspgate
from tests.bench.server import Server
from tests.bench.works import BODY_10M, PLAIN, WORKS, Work


@dataclass(frozen=True, slots=True)
class Proxy:
    """`start` takes a folder and the upstream's port; `peer` is the Envoy that does the same work."""

    name: str
    label: str
    peer: str
    work: Work
    start: Callable[[Path, int], AbstractContextManager[Server]]
    tools: tuple[str, ...] = ()


def _pair(work: Work) -> tuple[Proxy, Proxy]:
    peer = f"envoy{work.suffix}"
    return (
        Proxy(peer, f"Envoy{work.label}", peer, work, partial(envoy.proxy, work=work), ("envoy",)),
        Proxy(f"waspgate{work.suffix}", f"Waspgate{work.label}", peer, work, partial(waspgate.proxy, work=work)),
    )


MANY = 100_000

PROXIES = (
    Proxy("nginx", "nginx", "envoy", PLAIN, nginx.proxy),
    Proxy("nginx-10m", "nginx, 10 MiB", "envoy-10m", BODY_10M, partial(nginx.proxy, work=BODY_10M)),
    *(proxy for work in WORKS for proxy in _pair(work)),
    Proxy(
        "waspgate-many-routes",
        "Waspgate, 100,000 routes",
        "envoy",
        PLAIN,
        partial(waspgate.proxy, work=PLAIN, routes=MANY),
    ),
)
