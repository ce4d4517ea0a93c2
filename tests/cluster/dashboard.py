"""The dashboard, asked of the Prometheus that it is for.

The law: every expression of every panel is one that Prometheus takes; the page is read from every data
plane.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.command import ROOT

DASHBOARD = ROOT / "deploy/grafana/dashboards/waspgate.json"


def expressions() -> Iterator[tuple[str, str]]:
    """Panel and expression, as Prometheus takes it: all data planes, and a minute for its interval."""
    for panel in panels(json.loads(DASHBOARD.read_text())):
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


async def ask(base_url: str) -> list[str]:
    """What is wrong, in one line each."""
    wrong, with_data = [], 0
    async with httpx.AsyncClient(base_url=base_url, timeout=10, trust_env=False) as client:
        for title, expression in expressions():
            answer = (await client.get("/api/v1/query", params={"query": expression})).json()
            if answer["status"] != "success":
                wrong.append(f"{title}: {expression}: {answer.get('error')}")
            else:
                with_data += bool(answer["data"]["result"])
        up = (await client.get("/api/v1/query", params={"query": 'up{job="waspgate"} == 1'})).json()
    if not up["data"]["result"]:
        wrong.append("Prometheus reaches no data plane")
    if not with_data:
        wrong.append("no panel has data")
    return wrong
