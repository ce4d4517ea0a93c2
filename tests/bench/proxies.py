"""Who is compared with whom: one table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import envoy, nginx, waspgate
from tests.bench.server import Server


@dataclass(frozen=True, slots=True)
class Proxy:
    """`start` takes a folder and the upstream's port; `peer` is the Envoy that does the same work."""

    name: str
    label: str
    peer: str
    has_plugin: bool
    start: Callable[[Path, int], AbstractContextManager[Server]]
    tools: tuple[str, ...] = ()


PROXIES = (
    Proxy("envoy", "Envoy", "envoy", False, partial(envoy.proxy, has_plugin=False), ("envoy",)),
    Proxy("envoy-plugin", "Envoy, plugin", "envoy-plugin", True, partial(envoy.proxy, has_plugin=True), ("envoy",)),
    Proxy("nginx", "nginx", "envoy", False, nginx.proxy),
    Proxy("waspgate", "Waspgate", "envoy", False, partial(waspgate.proxy, has_plugin=False)),
    Proxy("waspgate-plugin", "Waspgate, plugin", "envoy-plugin", True, partial(waspgate.proxy, has_plugin=True)),
)
