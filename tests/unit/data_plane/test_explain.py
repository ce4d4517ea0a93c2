"""What the gateway would do with a request: the route, why not others, plugins, upstream, problems."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data_plane.config.compiler import Compiler
from data_plane.explain import Asked, Explainer
from shared.keys import Kind, resource_key
from shared.request_path import PathError
from shared.store.contract import Entry, Listing

NODES = {"nodes": {"127.0.0.1:1980": 1}}
ROUTES: dict[str, dict[str, Any]] = {
    "exact": {"uri": "/a/b", "upstream_id": "u"},
    "hosted": {"uri": "/a/*", "host": "*.example.com", "upstream": NODES},
    "posted": {"uri": "/a/*", "methods": ["POST"], "upstream": NODES},
    "near": {"uri": "/a/*", "remote_addr": "10.0.0.0/8", "priority": 5, "upstream": NODES},
    "asking": {"uri": "/a/*", "vars": [["post_arg.kind", "==", "x"]], "upstream": NODES},
    "lost": {"uri": "/lost", "upstream_id": "nothing"},
}


def explainer(**more: dict[str, dict[str, Any]]) -> Explainer:
    tables: dict[Kind, dict[str, dict[str, Any]]] = {"routes": ROUTES, "upstreams": {"u": NODES}, **more}  # type: ignore[dict-item]
    entries = [
        Entry(resource_key(kind, id), json.dumps(document).encode(), 1, 7)
        for kind, table in tables.items()
        for id, document in table.items()
    ]
    return Explainer(Listing(9, tuple(entries)), Compiler())


def because(explained: dict[str, Any]) -> dict[str, list[str]]:
    return {other["id"]: other["because"] for other in explained["others"]}


@pytest.mark.parametrize(
    ("asked", "route", "others"),
    [
        (
            Asked("GET", "x.org", "/a/b"),
            "exact",
            {"hosted": ["host"], "posted": ["method"], "near": ["remote_addr"], "asking": ["vars"], "lost": ["path"]},
        ),
        (Asked("GET", "www.example.com", "/a/b"), "hosted", {"exact": ["another route comes first"]}),
        (Asked("POST", "x.org", "/a/c"), "posted", {"exact": ["path"]}),
        (Asked("GET", "x.org", "/a/c", client="10.1.2.3"), "near", {"posted": ["method"]}),
        (Asked("GET", "x.org", "/a/c", [("Content-Type", "application/x-www-form-urlencoded")], body="kind=x"), "asking", {}),
        (Asked("GET", "x.org", "/b"), None, {"exact": ["path"]}),
    ],
)
def test_which_route_and_why_no_other(asked: Asked, route: str | None, others: dict[str, list[str]]) -> None:
    explained = explainer().explain(asked)

    assert (explained["route"] or {}).get("id") == route
    assert explained["problem"] == (None if route else "route_not_found")
    assert because(explained) | others == because(explained)
    assert explained["revision"] == 9


def test_plugins_and_upstream() -> None:
    plugins = {"echo": {"body": "x"}}
    more: dict[str, Any] = {
        "global_rules": {"g": {"plugins": {"request-id": {}}}},
        "services": {"s": {"upstream": {**NODES, "type": "chash", "key": "uri"}, "plugins": plugins}},
        "routes": {"r": {"uri": "/", "service_id": "s"}, "bad": {"uri": 5}},
    }
    explained = explainer(**more).explain(Asked("GET", "x.org", "/"))

    assert [(plugin["name"], plugin["owner"], plugin["kind"]) for plugin in explained["plugins"]] == [
        ("request-id", "global_rule/g", "native"),
        ("echo", "route/r", "native"),
    ]
    assert explained["upstream"] == {
        "from": "service/s",
        "scheme": "http",
        "pass_host": "pass",
        "type": "chash",
        "nodes": {"127.0.0.1:1980": 1},
        "key": "uri",
    }
    assert list(explained["problems"]) == ["/apisix/routes/bad"]


def test_a_route_without_its_upstream() -> None:
    explained = explainer().explain(Asked("GET", "x.org", "/lost"))
    assert (explained["route"]["id"], explained["problem"], explained["upstream"]) == ("lost", "upstream_not_found", None)


def test_a_path_that_no_request_can_have() -> None:
    with pytest.raises(PathError):
        explainer().explain(Asked("GET", "x.org", "/a/../../b%2"))
