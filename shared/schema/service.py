"""Services: plugins, hosts and an upstream that several routes inherit.

The law: every property is optional; a route's own value wins over the service's.
"""

from __future__ import annotations

from shared.schema.common import Described, Maybe, NotYet, ReferenceId, SomeUnique
from shared.schema.hosts import HostPattern
from shared.schema.plugins import Plugins
from shared.schema.upstream import UpstreamSpec


class ServiceSpec(Described):
    hosts: Maybe[SomeUnique[HostPattern]] = None
    plugins: Maybe[Plugins] = None
    upstream: Maybe[UpstreamSpec] = None
    upstream_id: Maybe[ReferenceId] = None
    enable_websocket: bool = False

    script: NotYet = None

    @property
    def host_patterns(self) -> tuple[str, ...]:
        return tuple(host.lower() for host in self.hosts or ())
