"""What a stream route and the upstreams of TCP accept, and how a refusal reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.schema.errors import SchemaError
from shared.schema.resources import RESOURCES, Kind, validate
from shared.schema.stream_route import StreamRouteSpec, parse_network

NODES = {"nodes": {"127.0.0.1:5432": 1}}

ACCEPTED: list[tuple[Kind, dict[str, Any]]] = [
    ("stream_routes", {"upstream": NODES}),
    ("stream_routes", {"upstream_id": 1, "server_port": 9100, "name": "n", "desc": "d", "labels": {"a": "b"}}),
    ("stream_routes", {"service_id": "s", "plugins": {"p": {"conf": "x"}}}),
    ("stream_routes", {"upstream_id": "1", "remote_addr": "10.0.0.1", "server_addr": "10.0.0.0/8"}),
    ("stream_routes", {"upstream_id": "1", "remote_addr": "2001:db8::1", "server_addr": "2001:db8::/32"}),
    ("stream_routes", {"upstream_id": "1", "remote_addr": "10.1.2.3/8"}),
    ("stream_routes", {"upstream_id": "1", "sni": "db.test"}),
    ("stream_routes", {"upstream_id": "1", "sni": "*.test"}),
    ("upstreams", {**NODES, "scheme": "tcp"}),
    ("upstreams", {**NODES, "scheme": "tls", "tls": {"verify": True}}),
    ("upstreams", {"nodes": [{"host": "db.test", "port": 5432, "weight": 1}], "scheme": "tls"}),
]

REFUSED: list[tuple[Kind, dict[str, Any], str, str]] = [
    (
        "stream_routes",
        {"server_port": 9100},
        "$",
        'object matches none of the required: ["upstream"] or ["upstream_id"] or ["service_id"]',
    ),
    ("stream_routes", {"plugins": {"p": {"conf": "x"}}}, "$", "object matches none of the required"),
    ("stream_routes", {"upstream_id": 1, "server_port": 0}, "$.server_port", "expected 0 to be at least 1"),
    ("stream_routes", {"upstream_id": 1, "server_port": 65536}, "$.server_port", "expected 65536 to be at most 65535"),
    ("stream_routes", {"upstream_id": 1, "server_port": "9100"}, "$.server_port", "wrong type: expected integer, got string"),
    ("stream_routes", {"upstream_id": 1, "remote_addr": "10.0.0.256"}, "$.remote_addr", 'invalid address "10.0.0.256"'),
    ("stream_routes", {"upstream_id": 1, "remote_addr": "10.0.0.0/33"}, "$.remote_addr", 'invalid address "10.0.0.0/33"'),
    ("stream_routes", {"upstream_id": 1, "server_addr": "localhost"}, "$.server_addr", 'invalid address "localhost"'),
    ("stream_routes", {"upstream_id": 1, "server_addr": ""}, "$.server_addr", "string too short"),
    ("stream_routes", {"upstream_id": 1, "sni": "a.*.test"}, "$.sni", 'invalid host "a.*.test"'),
    ("stream_routes", {"upstream_id": 1, "sni": None}, "$.sni", "wrong type: null"),
    ("stream_routes", {"upstream_id": 1, "protocol": {"name": "redis"}}, "$.protocol", "not supported yet"),
    ("stream_routes", {"upstream_id": 1, "serverport": 1}, "$", 'found serverport, did you mean "server_port"?'),
    ("stream_routes", {"upstream_id": 1, "plugins": {"p": 1}}, "$.plugins.p", "invalid plugin conf 1 for plugin [p]"),
    ("routes", {"uri": "/a", "upstream": {**NODES, "scheme": "tcp"}}, "$", "scheme tcp is for stream_routes only"),
    ("upstreams", {"nodes": {"db.test": 1}, "scheme": "tcp"}, "$", 'node "db.test" needs a port: scheme tcp has no default'),
    ("upstreams", {**NODES, "tls": {"verify": True}}, "$", "`tls` needs a `scheme` over TLS (https, grpcs, tls), got http"),
    ("upstreams", {**NODES, "scheme": "tls", "tls": {"client_cert": "x"}}, "$.tls.client_cert", "string too short"),
    ("upstreams", {**NODES, "scheme": "udp"}, "$.scheme", '"udp" is not supported yet'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "document"), ACCEPTED)
def test_accepted(kind: Kind, document: dict[str, Any]) -> None:
    validate(RESOURCES[kind].model, document)


@pytest.mark.parametrize(("kind", "document", "path", "text"), REFUSED)
def test_refused(kind: Kind, document: dict[str, Any], path: str, text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        validate(RESOURCES[kind].model, document)
    assert caught.value.problems[0].path == path
    assert text in caught.value.problems[0].text


@given(st.text(st.sampled_from("0123456789abcdef.:/% ü"), max_size=20))
def test_an_accepted_address_can_be_matched(text: str) -> None:
    try:
        spec = validate(StreamRouteSpec, {"upstream": NODES, "remote_addr": text})
    except SchemaError:
        return
    assert spec.remote_addr is not None
    parse_network(spec.remote_addr)
