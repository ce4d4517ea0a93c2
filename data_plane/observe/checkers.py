"""What health checks found, as the control API and the Prometheus page show it, in APISIX's form.

The law: it is read from the rows that all workers of the host share, so whichever worker is asked says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from data_plane.health.machine import Counter
from data_plane.health.rows import Place, decode, place_of
from data_plane.observe.families import sample

HEALTHCHECK_PATH: Final = "/v1/healthcheck"
UPSTREAM_STATUS: Final = "apisix_upstream_status"

# Where an upstream is written -> APISIX's kind of it.
_KINDS: Final = {"upstream": "upstreams", "route": "routes", "service": "services", "stream_route": "stream_routes"}

Answer = tuple[int, Any]


def checkers(rows: Mapping[bytes, bytes]) -> list[dict[str, Any]]:
    """One for each upstream that is checked, with its nodes."""
    found: dict[str, dict[str, Any]] = {}
    for key in sorted(rows):
        place = place_of(key)
        if place is not None:
            target, kind = decode(rows[key])
            checker = found.setdefault(place.upstream, {"name": _name(place), "type": kind, "nodes": []})
            node = {"ip": place.address, "port": place.port, "hostname": place.name}
            counts = {counter.name.lower(): target.counts[counter] for counter in Counter}
            checker["nodes"].append({**node, "status": target.health.name.lower(), "counter": counts})
    return list(found.values())


def answer(rest: str, rows: Mapping[bytes, bytes]) -> Answer:
    """`rest` is empty or such as `upstreams/1`."""
    everything = checkers(rows)
    if not rest:
        return 200, everything
    kind, _, id = rest.partition("/")
    if kind not in _KINDS.values():
        return 400, {"error_msg": f"invalid src type {kind}"}
    if not id:
        return 404, {"error_msg": f"missing src id for src type {kind}"}
    for checker in everything:
        if checker["name"] == f"/apisix/{kind}/{id}":
            return 200, checker
    return 404, {"error_msg": f"no checker for {kind}[{id}]"}


def samples(rows: Mapping[bytes, bytes]) -> dict[str, float]:
    """1 for a node that takes traffic."""
    found: dict[str, float] = {}
    for key, row in rows.items():
        place = place_of(key)
        if place is not None:
            labels = {"name": _name(place), "ip": place.address, "port": str(place.port)}
            found[sample(UPSTREAM_STATUS, **labels)] = int(decode(row)[0].health.takes_traffic)
    return found


def _name(place: Place) -> str:
    owner, _, id = place.upstream.partition("/")
    return f"/apisix/{_KINDS.get(owner, owner)}/{id}"
