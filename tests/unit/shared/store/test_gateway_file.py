"""A gateway's whole configuration in one file: its layout, and what is said of what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.store.gateway_file import GatewayFileError, is_complete, read_gateway

Read = Callable[[str], dict[str, object]]

APISIX = """
routes:
  -
    uri: /hello
    upstream:
      nodes:
        "127.0.0.1:1980": 1
      type: roundrobin
  - {id: 7, uri: /b, service_id: s}
services:
  - id: s
upstreams: []
plugins: [{name: limit-count}]
ssls:
consumers:
  - username: jack
  - {id: jack/credentials/one, plugins: {}}
credentials:
  - {id: jack/two}
secrets:
  - {id: vault/1}
plugin_metadata:
  - {id: cors, allow_origins: {}}
#END
"""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def values(text: str, *, as_json: bool = False) -> dict[str, object]:
        found = read_gateway(text, tmp_path, as_json=as_json, environment={"PORT": "1980", "NAME": "n", "OFF": "false"})
        return {key: json.loads(value) for key, value in found.values.items()}

    return values


def test_apisixs_layout(read: Read) -> None:
    found = read(APISIX)
    assert list(found) == [
        "/apisix/routes/arr_1",
        "/apisix/routes/7",
        "/apisix/services/s",
        "/apisix/consumers/jack",
        "/apisix/consumers/jack/credentials/one",
        "/apisix/consumers/jack/credentials/two",
        "/apisix/secrets/vault/1",
        "/apisix/plugin_metadata/cors",
    ]
    upstream = {"nodes": {"127.0.0.1:1980": 1}, "type": "roundrobin"}
    assert found["/apisix/routes/arr_1"] == {"uri": "/hello", "upstream": upstream}


@pytest.mark.parametrize("end", ["", "\n#END", "\n#END\n\n"])
def test_json_says_the_same(tmp_path: Path, end: str) -> None:
    text = '{"routes": [{"id": "1", "uri": "/a"}]}' + end
    assert read_gateway(text, tmp_path, as_json=True).values == {"/apisix/routes/1": b'{"id":"1","uri":"/a"}'}


@pytest.mark.parametrize(("text", "complete"), [("a: 1\n#END\n", True), ("a: 1", False), ("#END\na: 1", False), ("", False)])
def test_the_mark_at_the_end(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_an_empty_file_is_an_empty_configuration(read: Read, tmp_path: Path) -> None:
    assert read("") == read("#END") == read("routes:") == {}
    assert read_gateway("", tmp_path, as_json=True).values == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: [", "at line 2 column 1"),
        ("- 1", "$: expected an object of sections, got list"),
        ("rotues: []", "$.rotues: unknown section, known are routes, "),
        ("routes: {a: 1}", '$.routes: expected an array, got {"a": 1}'),
        ("routes: [1]", "$.routes[0]: expected an object, got 1"),
        ("routes: [{id: 1}, {id: '1'}]", "$.routes[1]: there is another one with this id before it"),
        ("routes: [{id: true}]", "$.routes[0].id: expected a string or a number, got true"),
        ("routes: [{id: a/b}]", "$.routes[0].id: a resource id must be non-empty and without '/'"),
        ("secrets: [{uri: x}]", "$.secrets[0]: the property 'id' is required"),
        ("consumers: [{plugins: {}}]", "$.consumers[0]: the property 'username' is required"),
        ("routes: [{uri: '${{AWAY}}'}]", "$.routes[0].uri: there is no environment variable AWAY"),
        ("a: " + "[" * 70 + "]" * 70, "nested deeper than 64 levels"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(read: Read, text: str, said: str) -> None:
    with pytest.raises(GatewayFileError) as raised:
        read(text)
    assert said in str(raised.value)


def test_variables_of_the_environment(read: Read) -> None:
    text = """
upstreams:
  - id: ${{NAME}}
    nodes: [{host: "h-${{NAME}}", port: "${{PORT}}", weight: "${{ WEIGHT := 3 }}"}]
    tls: "${{OFF}}"
"""
    node = {"host": "h-n", "port": 1980, "weight": " 3 "}
    assert read(text) == {"/apisix/upstreams/n": {"id": "n", "nodes": [node], "tls": False}}


def test_modules_are_pinned_to_what_their_files_have(tmp_path: Path) -> None:
    (tmp_path / "p.wasm").write_bytes(b"bytes")
    digest = hashlib.sha256(b"bytes").hexdigest()
    found = read_gateway("wasm_plugins: [{id: p, module: {file: p.wasm}}]", tmp_path, as_json=False)
    assert found.modules == {digest: tmp_path / "p.wasm"}
    stored = json.loads(found.values["/apisix/wasm_plugins/p"])
    assert stored["module"] == {"file": str(tmp_path / "p.wasm"), "sha256": digest}


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("{file: away.wasm}", "$.wasm_plugins[0].module.file: "),
        ("{file: p.wasm, sha256: ab}", "$.wasm_plugins[0].module.sha256: "),
    ],
)
def test_a_module_that_is_not_there_or_another_one(tmp_path: Path, module: str, said: str) -> None:
    (tmp_path / "p.wasm").write_bytes(b"bytes")
    with pytest.raises(GatewayFileError) as raised:
        read_gateway(f"wasm_plugins: [{{id: p, module: {module}}}]", tmp_path, as_json=False)
    assert str(raised.value).startswith(said)
