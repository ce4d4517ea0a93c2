"""prometheus: requests of a route by status, time and size, on the gateway's Prometheus page.

The law: names and labels are APISIX's. A label set is made once and kept, so that a request costs a look-up and five additions.
The host takes so many label sets and no more (`Host.metrics`): what clients choose (unknown statuses aside) is no label.
"""

from __future__ import annotations

import time
from typing import ClassVar

from shared.plugin.host import Host
from shared.plugin.metrics import Metrics, Series
from shared.plugin.plugin import Plugin
from shared.plugin.request import Request, Response
from shared.schema.common import Spec

STATUS, LATENCY, BANDWIDTH = "apisix_http_status", "apisix_http_latency", "apisix_bandwidth"


class PrometheusConfig(Spec):
    """`prefer_name`: the route's name stands for it instead of its id."""

    prefer_name: bool = False


class Prometheus(Plugin[PrometheusConfig]):
    name: ClassVar[str] = "prometheus"
    priority: ClassVar[int] = 500
    Config = PrometheusConfig
    prefers_route = True

    def __init__(self, config: PrometheusConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._metrics: Metrics | None = None
        self._statuses: dict[tuple[int, str, str, str], Series] = {}
        self._sizes: dict[tuple[str, str, str], _Sizes] = {}

    def attach(self, host: Host) -> None:
        self._metrics = host.metrics

    def before_proxy(self, request: Request) -> None:
        request.context[self] = time.monotonic_ns()

    def log(self, request: Request, response: Response | None) -> None:
        exchange = request.exchange
        if exchange is None or self._metrics is None:
            return
        address, consumer = exchange.upstream_address, request.consumer
        at = _at(request)
        node = "" if address is None else address[0]
        who = "" if consumer is None else consumer.username
        if response is not None:
            series = self._statuses.get((response.status, at, node, who)) or self._status(request, response.status, node, who)
            series.add(1)
        sizes = self._sizes.get((at, node, who)) or self._size(request, node, who)
        sizes.ingress.add(exchange.request_bytes)
        sizes.egress.add(exchange.response_bytes)
        whole = exchange.duration_ns or 0
        sizes.request.add(whole // 1_000_000)
        sent = request.context.get(self)
        if sent is not None and address is not None:
            upstream = min(time.monotonic_ns() - sent, whole)
            sizes.upstream.add(upstream // 1_000_000)
            sizes.gateway.add((whole - upstream) // 1_000_000)

    def _labels(self, request: Request, node: str, who: str) -> dict[str, str]:
        route = request.route
        if route is None:
            return {"route": "", "service": "", "consumer": who, "node": node}
        name = route.name if self.config.prefer_name else route.id
        return {"route": name, "service": route.service_id or "", "consumer": who, "node": node}

    def _status(self, request: Request, status: int, node: str, who: str) -> Series:
        assert self._metrics is not None
        labels = {"code": str(status), **self._labels(request, node, who), "response_source": "upstream" if node else "apisix"}
        series = self._statuses[status, _at(request), node, who] = self._metrics.counter(STATUS, labels)
        return series

    def _size(self, request: Request, node: str, who: str) -> _Sizes:
        assert self._metrics is not None
        sizes = self._sizes[_at(request), node, who] = _Sizes(self._metrics, self._labels(request, node, who))
        return sizes


def _at(request: Request) -> str:
    """A global rule's plugin sees all routes."""
    return "" if request.route is None else request.route.id


class _Sizes:
    """The series of a label set: bytes, and milliseconds."""

    __slots__ = ("egress", "gateway", "ingress", "request", "upstream")

    def __init__(self, metrics: Metrics, labels: dict[str, str]) -> None:
        self.ingress = metrics.counter(BANDWIDTH, {"type": "ingress", **labels})
        self.egress = metrics.counter(BANDWIDTH, {"type": "egress", **labels})
        self.request = metrics.histogram(LATENCY, {"type": "request", **labels})
        self.upstream = metrics.histogram(LATENCY, {"type": "upstream", **labels})
        self.gateway = metrics.histogram(LATENCY, {"type": "apisix", **labels})
