"""What each kind of resource accepts, and how a refusal reads."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.schema.document import DocumentError, decode, encode
from shared.schema.errors import SchemaError
from shared.schema.resources import RESOURCES, Kind, json_schema, parse_stored, validate
from shared.schema.upstream import Server, UpstreamSpec

NODES = {"nodes": {"127.0.0.1:8080": 1}}
PLUGINS = {"greeting": {"conf": "hello"}}
TIMEOUT = {"connect": 1, "send": 2.5, "read": 3}
DIGEST = "0" * 64

ACCEPTED: list[tuple[Kind, dict[str, Any]]] = [
    ("routes", {"uri": "/hello", "upstream": NODES}),
    ("routes", {"uri": "/*", "upstream_id": 1}),
    ("routes", {"uris": ["/a", "/a/*", "/:tenant/x"], "service_id": "s.1-_"}),
    ("routes", {"uri": "/a", "plugins": {}}),
    ("routes", {"uri": "/a", "upstream_id": "1", "hosts": ["a.com", "*.b.com", "*c.com", "[::1]", "*"]}),
    ("routes", {"uri": "/a", "upstream_id": "1", "host": "A.com", "methods": ["GET", "PURGE"], "priority": -1}),
    ("routes", {"uri": "/a", "upstream_id": "1", "status": 0, "timeout": TIMEOUT, "enable_websocket": False}),
    ("routes", {"uri": "/a", "plugin_config_id": 7, "plugins": PLUGINS, "name": "n", "desc": "", "labels": {"k": "v"}}),
    ("routes", {"uri": "/a", "plugins": {"p": {"conf": {"a": [None]}, "_meta": {"disable": True, "priority": 5}}}}),
    ("routes", {"uri": "/a", "upstream_id": "1", "enable_websocket": True}),
    ("services", {"enable_websocket": True}),
    ("services", {}),
    ("services", {"plugins": PLUGINS, "upstream": NODES, "hosts": ["a.com"], "name": "s"}),
    ("upstreams", NODES),
    ("upstreams", {"nodes": [], "type": "roundrobin", "scheme": "http"}),
    ("upstreams", {"service_name": "_http._tcp.a.test", "discovery_type": "dns"}),
    ("upstreams", {**NODES, "scheme": "https", "tls": {"verify": False}}),
    ("upstreams", {**NODES, "checks": {"active": {}}}),
    ("upstreams", {**NODES, "checks": {"active": {"type": "tcp"}, "passive": {"unhealthy": {"timeouts": 0}}}}),
    ("upstreams", {**NODES, "checks": {"active": {"host": "a.test", "port": 81, "req_headers": ["Authorization: x y"]}}}),
    ("upstreams", {"nodes": [{"host": "a_b.c", "weight": 0, "port": 65535, "priority": -1}]}),
    ("upstreams", {**NODES, "type": "chash", "hash_on": "vars_combinations", "key": "$host${arg_a}x$http_b"}),
    ("routes", {"uri": "/a", "upstream_id": 1, "vars": [["arg_a", "==", "b"]], "remote_addr": "10.0.0.0/8"}),
    ("routes", {"uri": "/a", "upstream_id": 1, "vars": [], "remote_addrs": ["10.0.0.0/8", "::1"]}),
    ("upstreams", {**NODES, "type": "chash", "hash_on": "consumer"}),
    ("upstreams", {**NODES, "type": "ewma", "retries": 0, "retry_timeout": 1.5}),
    ("upstreams", {**NODES, "pass_host": "rewrite", "upstream_host": "a.com:8080", "timeout": TIMEOUT}),
    ("upstreams", {**NODES, "keepalive_pool": {"size": 1, "idle_timeout": 0, "requests": 1}}),
    ("plugin_configs", {"plugins": PLUGINS}),
    ("global_rules", {"plugins": PLUGINS}),
    ("wasm_plugins", {}),
    ("wasm_plugins", {"module": {"file": "/a.wasm"}, "priority": 7999, "http_request_phase": "rewrite"}),
    ("wasm_plugins", {"module": {"sha256": DIGEST}, "failure_policy": "fail_open", "dialect": "apisix"}),
    ("wasm_plugins", {"vm_configuration": {"a": 1}, "environment": {"A": "b"}, "limits": {"callback_cpu_ms": 1}}),
    ("wasm_plugins", {"limits": {"memory_bytes": 2**28, "body_buffer_bytes": 2**26}}),
    ("wasm_plugins", {"limits": {"memory_bytes": 2**24}}),
    (
        "wasm_plugins",
        {"limits": {"stream_cpu_ms": 50, "pending_callouts": 1, "log_lines_per_second": 5, "shared_data_bytes": 1}},
    ),
    ("wasm_plugins", {"capabilities": ["proxy_log", "proxy_on_tick", "fd_write"], "failure_policy": "fail_reload"}),
]

# kind, document, JSON path, a part of the message
REFUSED: list[tuple[Kind, object, str, str]] = [
    ("routes", [], "$", "wrong type: expected object, got array"),
    ("routes", None, "$", "wrong type: expected object, got null"),
    ("routes", "x", "$", "wrong type: expected object, got string"),
    ("routes", {"plugins": {}}, "$", 'property "uri" or "uris" is required'),
    ("routes", {"uri": "/a", "uris": ["/b"], "upstream_id": 1}, "$", "matches both uri and uris"),
    ("routes", {"uri": "/a"}, "$", "object matches none of the required"),
    ("routes", {"uri": "/a", "plugin_config_id": 1}, "$", "object matches none of the required"),
    (
        "routes",
        {"uri": 5, "upstream_id": 1},
        "$.uri",
        'property "uri" validation failed: wrong type: expected string',
    ),
    ("routes", {"uri": "", "upstream_id": 1}, "$.uri", "string too short, expected at least 1, got 0"),
    ("routes", {"uri": "/" + "a" * 4096, "upstream_id": 1}, "$.uri", "string too long, expected at most 4096, got 4097"),
    ("routes", {"uri": "a", "upstream_id": 1}, "$.uri", "path 'a' does not begin with a slash"),
    ("routes", {"uri": "/a*b", "upstream_id": 1}, "$.uri", "has a `*` within a segment"),
    ("routes", {"uri": "/a/:", "upstream_id": 1}, "$.uri", "needs a parameter's name"),
    (
        "routes",
        {"uris": ["/a", "/a/../b"], "upstream_id": 1},
        "$.uris[1]",
        "item 2: path '/a/../b' has a dot",
    ),
    ("routes", {"uri": "/a?b", "upstream_id": 1}, "$.uri", "has a query"),
    ("routes", {"uri": "/a#b", "upstream_id": 1}, "$.uri", "has a query or fragment"),
    ("routes", {"uri": "/100%", "upstream_id": 1}, "$.uri", "two hex digits"),
    ("routes", {"uri": "/a\0", "upstream_id": 1}, "$.uri", "a NUL"),
    ("routes", {"uri": "/:a*", "upstream_id": 1}, "$.uri", "right behind a parameter"),
    ("routes", {"uri": "/:a/:a", "upstream_id": 1}, "$.uri", "same parameter name"),
    ("routes", {"uris": [], "upstream_id": 1}, "$.uris", "expect array to have at least 1 items"),
    ("routes", {"uris": ["/a", "/a"], "upstream_id": 1}, "$.uris", "expected unique items but items 1 and 2 are equal"),
    ("routes", {"uris": "/a", "upstream_id": 1}, "$.uris", "wrong type: expected array, got string"),
    ("routes", {"uri": "/a", "upstream_id": 1, "host": "a", "hosts": ["b"]}, "$", "only one of host or hosts is allowed"),
    ("routes", {"uri": "/a", "upstream_id": 1, "host": "a.*.com"}, "$.host", 'invalid host "a.*.com"'),
    ("services", {"hosts": ["a..com"]}, "$.hosts[0]", 'invalid host "a..com"'),
    ("services", {"hosts": ["[::1::]"]}, "$.hosts[0]", 'invalid host "[::1::]"'),
    ("routes", {"uri": "/a", "upstream_id": 1, "hosts": ["a", "a:80"]}, "$.hosts[1]", "failed to validate item 2"),
    ("routes", {"uri": "/a", "upstream_id": 1, "methods": ["FETCH"]}, "$.methods[0]", "matches none of the enum values"),
    ("routes", {"uri": "/a", "upstream_id": 1, "priority": 1.5}, "$.priority", "expected integer, got number"),
    ("routes", {"uri": "/a", "upstream_id": 1, "priority": True}, "$.priority", "expected integer, got boolean"),
    ("routes", {"uri": "/a", "upstream_id": 1, "priority": 2**40}, "$.priority", "to be at most 2147483647"),
    ("routes", {"uri": "/a", "upstream_id": 1, "status": 2}, "$.status", "expected 0 or 1, got 2"),
    ("routes", {"uri": "/a", "upstream_id": 0}, "$.upstream_id", "expected 0 to be at least 1"),
    ("routes", {"uri": "/a", "upstream_id": "a/b"}, "$.upstream_id", "failed to match pattern"),
    ("routes", {"uri": "/a", "upstream_id": "a" * 65}, "$.upstream_id", "string too long, expected at most 64, got 65"),
    ("routes", {"uri": "/a", "upstream_id": 1, "name": None}, "$.name", "wrong type: null, leave the property out"),
    ("routes", {"uri": "/a", "upstream_id": 1, "labels": {"a": "b c"}}, "$.labels.a", "failed to match pattern"),
    ("routes", {"uri": "/a", "upstream_id": 1, "timeout": {"connect": 1}}, "$.timeout", 'property "send" is required'),
    ("routes", {"uri": "/a", "upstream_id": 1, "timeout": {**TIMEOUT, "read": 0}}, "$.timeout.read", "to be greater than 0"),
    ("routes", {"uri": "/a", "upstream_id": 1, "timeout": {**TIMEOUT, "read": 1e300}}, "$.timeout.read", "at most 2147483.0"),
    ("routes", {"uri": "/a", "upstream_id": 1, "hots": []}, "$", 'found hots, did you mean "hosts"?'),
    ("routes", {"uri": "/a", "upstream_id": 1, "zzz": []}, "$", "additional properties forbidden, found zzz"),
    (
        "routes",
        {"uri": "/a", "upstream_id": 1, "vars": [["arg_a", "==", "b"], ["OR", ["arg_b", "1"], ["arg_c", ">", "x"]]]},
        "$.vars[1][2][2]",
        "failed to validate the 'vars' expression: expected a number, got \"x\"",
    ),
    ("routes", {"uri": "/a", "upstream_id": 1, "vars": [["arg_a", "=", "b"]]}, "$.vars[0]", "invalid operator '='"),
    ("routes", {"uri": "/a", "upstream_id": 1, "vars": ["arg_a", "b"]}, "$.vars", "rule should be wrapped inside brackets"),
    ("routes", {"uri": "/a", "upstream_id": 1, "vars": [["a", "b"]]}, "$.vars[0][0]", "unknown variable"),
    ("routes", {"uri": "/a", "upstream_id": 1, "vars": [["status", 200]]}, "$.vars[0][0]", "not known before a route"),
    ("routes", {"uri": "/a", "upstream_id": 1, "vars": {}}, "$.vars", "expected an array"),
    ("routes", {"uri": "/a", "upstream_id": 1, "filter_func": "function() end"}, "$.filter_func", "no Lua runs here"),
    ("routes", {"uri": "/a", "upstream_id": 1, "remote_addr": "::1/129"}, "$.remote_addr", "invalid address"),
    ("routes", {"uri": "/a", "upstream_id": 1, "remote_addrs": ["::1", "x"]}, "$.remote_addrs[1]", "invalid address"),
    ("routes", {"uri": "/a", "upstream_id": 1, "remote_addrs": []}, "$.remote_addrs", "at least 1 items"),
    (
        "routes",
        {"uri": "/a", "upstream_id": 1, "remote_addr": "::1", "remote_addrs": ["::1"]},
        "$",
        "only one of remote_addr or remote_addrs is allowed",
    ),
    ("routes", {"uri": "/a", "upstream_id": 1, "script": "x"}, "$.script", "not supported yet"),
    ("routes", {"uri": "/a", "upstream_id": 1, "enable_websocket": 1}, "$.enable_websocket", "expected boolean, got number"),
    ("services", {"enable_websocket": None}, "$.enable_websocket", "null"),
    ("routes", {"uri": "/a", "plugins": None}, "$.plugins", "null"),
    ("routes", {"uri": "/a", "plugins": []}, "$.plugins", "expected object, got array"),
    ("routes", {"uri": "/a", "plugins": {"p": 123}}, "$.plugins.p", "invalid plugin conf 123 for plugin [p]"),
    ("routes", {"uri": "/a", "plugins": {"p": None}}, "$.plugins.p", "invalid plugin conf null for plugin [p]"),
    ("routes", {"uri": "/a", "plugins": {"p": {}}}, "$.plugins.p", 'of plugin p err: property "conf" is required'),
    ("routes", {"uri": "/a", "plugins": {"p": {"conf": ""}}}, "$.plugins.p.conf", "string too short"),
    ("routes", {"uri": "/a", "plugins": {"p": {"conf": {}}}}, "$.plugins.p.conf", "at least 1 properties"),
    ("routes", {"uri": "/a", "plugins": {"p": {"conf": 5}}}, "$.plugins.p.conf", "expected string or object, got number"),
    ("routes", {"uri": "/a", "plugins": {"p": {"conf": []}}}, "$.plugins.p.conf", "expected string or object, got array"),
    ("routes", {"uri": "/a", "plugins": {"p": {"conf": "x", "id": 1}}}, "$.plugins.p", "found id"),
    (
        "routes",
        {"uri": "/a", "plugins": {"p": {"conf": "x", "_meta": {"pre_function": "x"}}}},
        "$.plugins.p._meta.pre_function",
        "not supported yet",
    ),
    ("routes", {"uri": "/a", "plugins": {"p": {"conf": "x", "_meta": {"off": 1}}}}, "$.plugins.p._meta", "found off"),
    ("routes", {"uri": "/a", "plugins": {"a b": {"conf": "x"}}}, "$.plugins", 'invalid property name "a b"'),
    ("services", {"uri": "/a"}, "$", "additional properties forbidden, found uri"),
    ("services", {"upstream": {}}, "$.upstream", 'property "upstream" validation failed: property "nodes" is required'),
    ("upstreams", {}, "$", 'property "nodes" is required'),
    ("upstreams", {"nodes": 5}, "$.nodes", "wrong type: expected array or object, got number"),
    ("upstreams", {"nodes": None}, "$.nodes", "wrong type: null, leave the property out"),
    ("upstreams", {"nodes": {"a b": 1}}, "$.nodes", 'invalid address "a b"'),
    ("upstreams", {"nodes": {"a:0": 1}}, "$.nodes", "invalid port 0"),
    ("upstreams", {"nodes": {"a:99999": 1}}, "$.nodes", "invalid port 99999"),
    ("upstreams", {"nodes": {"[::g]:80": 1}}, "$.nodes", "invalid address"),
    ("upstreams", {"nodes": {"[1::2::3]:80": 1}}, "$.nodes", "invalid IPv6 address"),
    ("upstreams", {"nodes": {"a..b:80": 1}}, "$.nodes", 'invalid address "a..b:80"'),
    ("upstreams", {"nodes": {"a" * 64: 1}}, "$.nodes", "invalid address"),
    ("upstreams", {"nodes": {"a." * 127 + "a": 1}}, "$.nodes", "a name of 255 characters, expected at most 254"),
    ("upstreams", {"nodes": {"a:80": -1}}, '$.nodes["a:80"]', "expected -1 to be at least 0"),
    ("upstreams", {"nodes": [{"host": "a"}]}, "$.nodes[0]", 'failed to validate item 1: property "weight" is required'),
    ("upstreams", {"nodes": [{"host": "::1", "weight": 1}]}, "$.nodes[0].host", "stands in brackets"),
    ("upstreams", {"nodes": [{"host": "a", "weight": 1, "priority": 1.5}]}, "$.nodes[0].priority", "expected integer"),
    ("upstreams", {**NODES, "type": "chash"}, "$", "missing key"),
    ("upstreams", {**NODES, "type": "chash", "hash_on": "header"}, "$", "missing key"),
    (
        "upstreams",
        {**NODES, "type": "chash", "key": "http_x"},
        "$.key",
        "expected one of uri, server_name",
    ),
    ("upstreams", {**NODES, "type": "chash", "hash_on": "header", "key": "a b"}, "$.key", "expected the name of a field"),
    ("upstreams", {**NODES, "type": "chash", "hash_on": "cookie", "key": "a;b"}, "$.key", "expected the name of a cookie"),
    (
        "upstreams",
        {**NODES, "type": "chash", "hash_on": "vars_combinations", "key": "$uri$nope"},
        "$.key",
        "unknown variable $nope",
    ),
    ("upstreams", {**NODES, "type": "chash", "hash_on": "vars_combinations", "key": "uri"}, "$.key", "at least one $variable"),
    ("upstreams", {**NODES, "type": "chash", "hash_on": "ip", "key": "uri"}, "$.hash_on", "enum values"),
    ("upstreams", {**NODES, "type": "chash", "key": ""}, "$.key", "string too short"),
    ("upstreams", {**NODES, "type": "chash", "key": "mqtt_client_id"}, "$.key", "not supported yet"),
    ("upstreams", {**NODES, "retries": -1}, "$.retries", "expected -1 to be at least 0"),
    ("upstreams", {**NODES, "retries": "1"}, "$.retries", "expected integer, got string"),
    ("upstreams", {**NODES, "retry_timeout": -0.5}, "$.retry_timeout", "expected -0.5 to be at least 0"),
    ("upstreams", {**NODES, "type": "random"}, "$.type", "'least_conn' or 'ewma', got \"random\""),
    ("upstreams", {**NODES, "scheme": "udp"}, "$.scheme", '"udp" is not supported yet'),
    ("upstreams", {**NODES, "tls": {"verify": True}}, "$", "`tls` needs a `scheme` over TLS"),
    ("upstreams", {**NODES, "scheme": "https", "tls": {"client_key": "x" * 64}}, "$.tls", "`client_key` needs `client_cert`"),
    ("upstreams", {**NODES, "service_name": "a.test", "discovery_type": "dns"}, "$", 'expected "nodes" or "service_name"'),
    ("upstreams", {"service_name": "a.test"}, "$", '"service_name" and "discovery_type" come together'),
    ("upstreams", {"service_name": "a.test", "discovery_type": "nacos"}, "$.discovery_type", '"nacos" is not supported yet'),
    ("upstreams", {**NODES, "checks": {}}, "$.checks", 'property "active" is required'),
    ("upstreams", {**NODES, "checks": {"passive": {}}}, "$.checks", 'property "active" is required'),
    ("upstreams", {**NODES, "checks": {"active": {"type": "udp"}}}, "$.checks.active.type", "enum values"),
    ("upstreams", {**NODES, "checks": {"active": {"timeout": 0}}}, "$.checks.active.timeout", "to be greater than 0"),
    ("upstreams", {**NODES, "checks": {"active": {"http_path": "a"}}}, "$.checks.active.http_path", "begins with /"),
    ("upstreams", {**NODES, "checks": {"active": {"http_path": "/a b"}}}, "$.checks.active.http_path", "without spaces"),
    ("upstreams", {**NODES, "checks": {"active": {"http_method": "G T"}}}, "$.checks.active.http_method", "an HTTP method"),
    (
        "upstreams",
        {**NODES, "checks": {"active": {"req_headers": ["X: a\r\nY: b"]}}},
        "$.checks.active.req_headers[0]",
        'a header like "Name: value"',
    ),
    (
        "upstreams",
        {**NODES, "checks": {"active": {"req_headers": ["Content-Length: 5"]}}},
        "$.checks.active.req_headers[0]",
        "set by the probe itself",
    ),
    (
        "upstreams",
        {**NODES, "checks": {"active": {"healthy": {"successes": 255}}}},
        "$.checks.active.healthy.successes",
        "at most 254",
    ),
    (
        "upstreams",
        {**NODES, "checks": {"active": {"unhealthy": {"http_statuses": [700]}}}},
        "$.checks.active.unhealthy.http_statuses[0]",
        "at most 599",
    ),
    ("upstreams", {**NODES, "pass_host": "rewrite"}, "$", "`upstream_host` can't be empty when `pass_host` is `rewrite`"),
    ("upstreams", {**NODES, "keepalive_pool": {"size": 0}}, "$.keepalive_pool.size", "expected 0 to be at least 1"),
    ("plugin_configs", {}, "$", 'property "plugins" is required'),
    ("global_rules", {"plugins": PLUGINS, "uri": "/a"}, "$", "found uri"),
    ("wasm_plugins", {"module": {}}, "$.module", 'matches none of the required: ["file"], ["url"], ["oci"] or ["sha256"]'),
    ("wasm_plugins", {"module": {"file": "a.wasm"}}, "$.module.file", "failed to match pattern"),
    ("wasm_plugins", {"module": {"sha256": "ABC"}}, "$.module.sha256", "failed to match pattern"),
    ("wasm_plugins", {"module": {"url": "http://x"}}, "$.module", 'property "sha256" is required beside "url"'),
    ("wasm_plugins", {"module": {"url": "ftp://x/", "sha256": DIGEST}}, "$.module.url", "expected an http or https URL"),
    ("wasm_plugins", {"module": {"url": "https://u:p@x/", "sha256": DIGEST}}, "$.module.url", "without user, password"),
    ("wasm_plugins", {"module": {"url": "https://", "sha256": DIGEST}}, "$.module.url", "expected an http or https URL"),
    ("wasm_plugins", {"module": {"url": "http://x/a b", "sha256": DIGEST}}, "$.module.url", "failed to match pattern"),
    ("wasm_plugins", {"module": {"oci": "x/y:z"}}, "$.module.oci", "expected oci://HOST/REPOSITORY:TAG"),
    ("wasm_plugins", {"module": {"oci": "oci://x/y"}}, "$.module.oci", "expected oci://HOST/REPOSITORY:TAG"),
    ("wasm_plugins", {"module": {"oci": "oci://x/y:z", "file": "/f"}}, "$.module", "file and oci exclude each other"),
    ("wasm_plugins", {"limits": {"memory_bytes": 1}}, "$.limits.memory_bytes", "expected 1 to be at least 16777216"),
    ("wasm_plugins", {"limits": {"memory_bytes": 2**24, "body_buffer_bytes": 2**23}}, "$.limits", "of at least 33554432"),
    ("wasm_plugins", {"limits": {"body_buffer_bytes": 2**27}}, "$.limits.body_buffer_bytes", "to be at most 67108864"),
    ("wasm_plugins", {"limits": {"stream_cpu_ms": None}}, "$.limits.stream_cpu_ms", "null"),
    ("wasm_plugins", {"limits": {"log_lines_per_second": 0}}, "$.limits.log_lines_per_second", "to be at least 1"),
    ("wasm_plugins", {"limits": {"shared_data_bytes": 2**30}}, "$.limits.shared_data_bytes", "to be at most 536870912"),
    ("wasm_plugins", {"capabilities": []}, "$.capabilities", "1"),
    (
        "wasm_plugins",
        {"capabilities": ["proxy_lg"]},
        "$.capabilities",
        "or WASI function: 'proxy_lg'",
    ),
    ("wasm_plugins", {"http_request_phase": "log"}, "$.http_request_phase", "matches none of the enum values"),
    ("wasm_plugins", {"environment": {"A=B": "x"}}, "$.environment", 'invalid property name "A=B"'),
    ("wasm_plugins", {"vm_configuration": 5}, "$.vm_configuration", "expected string or object, got number"),
]


@pytest.mark.parametrize(("kind", "document"), ACCEPTED, ids=lambda value: json.dumps(value)[:60])
def test_accepted(kind: Kind, document: dict[str, Any]) -> None:
    model = validate(RESOURCES[kind].model, document)

    stored = {**document, "id": "1", "create_time": 1, "update_time": 2}
    assert parse_stored(kind, encode(stored)) == model


@pytest.mark.parametrize(("kind", "document", "path", "text"), REFUSED, ids=lambda value: json.dumps(value)[:60])
def test_refused(kind: Kind, document: object, path: str, text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        validate(RESOURCES[kind].model, document)

    assert text in str(caught.value)
    assert path in [problem.path for problem in caught.value.problems]


def test_every_mistake_is_named_but_not_endlessly_many() -> None:
    document = {"nodes": [{"host": "a", "weight": "heavy"}] * 50}

    with pytest.raises(SchemaError) as caught:
        validate(UpstreamSpec, document)

    assert str(caught.value).startswith("invalid configuration: ")
    assert [p.path for p in caught.value.problems] == [*(f"$.nodes[{n}].weight" for n in range(10)), "$"]
    assert caught.value.problems[-1].text == "and 40 more"


def test_both_notations_of_nodes_mean_the_same_servers() -> None:
    by_map = validate(UpstreamSpec, {"nodes": {"a": 1, "b:81": 0, "[::1]:82": 3}})
    by_list = validate(
        UpstreamSpec,
        {
            "nodes": [
                {"host": "a", "weight": 1},
                {"host": "b", "port": 81, "weight": 0},
                {"host": "[::1]", "port": 82, "weight": 3},
            ]
        },
    )

    assert by_map.servers == by_list.servers == (Server("a", 80, 1), Server("b", 81, 0), Server("::1", 82, 3))


def test_an_integer_id_names_the_same_object_as_its_text() -> None:
    route = parse_stored("routes", b'{"uri":"/a","upstream_id":7}')

    assert route.upstream_id == "7"


@pytest.mark.parametrize("data", [b"", b"init_dir", b"[]", b'{"uri":5}', b"\xff", b'{"uri":"/a","uri":"/b"}'])
def test_what_is_stored_wrongly_is_a_value_error(data: bytes) -> None:
    with pytest.raises((DocumentError, SchemaError)):
        parse_stored("routes", data)


@pytest.mark.parametrize("kind", RESOURCES)
def test_json_schema_knows_no_null(kind: Kind) -> None:
    schema = json_schema(kind)

    # What metadata may say depends on the plugin, what a secret manager is told on the manager.
    assert schema["additionalProperties"] is (kind in ("plugin_metadata", "secrets"))
    assert '"null"' not in json.dumps(schema)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "Expecting value at line 1 column 1"),
        (b'{"a":\n!}', "Expecting value at line 2 column 1"),
        (b'{"a":1,"a":2}', 'duplicate key "a"'),
        (b'{"b":{"a":1,"a":1}}', 'duplicate key "a"'),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "number out of range: 1e999"),
        (b'"\xff"', "not UTF-8"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b"[" * 100_000, "nested"),
        (b"[" * 80 + b"]" * 80, "nested deeper than 64 levels"),
        (b"1" * 5000, "digits"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_no_strict_json(data: bytes, text: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(text)):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        document = decode(data)
    except DocumentError:
        return
    assert decode(encode(document)) == document


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(RESOURCES)), st.data())
def test_any_document_is_a_model_or_a_schema_error(kind: Kind, data: st.DataObject) -> None:
    names = [info.alias or name for name, info in RESOURCES[kind].model.model_fields.items()]
    document = data.draw(st.dictionaries(st.sampled_from(names or ["any"]), JSON_VALUES, max_size=5) | JSON_VALUES)
    with suppress(SchemaError):
        validate(RESOURCES[kind].model, document)
