"""Protocol Buffers definitions: what is one, and where what is none goes wrong."""

from __future__ import annotations

import base64

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from shared.schema.errors import SchemaError
from shared.schema.proto import ProtoSpec
from shared.schema.proto_text import ProtoError, check_proto
from shared.schema.resources import validate

GOOD = [
    "",
    'syntax = "proto3";',
    'syntax = "proto3"; package a.b; import public "c.proto"; option go_package = "x";',
    "message A { string a = 1; repeated .a.B b = 2 [packed = true, (x.y) = {z: 1}]; map<string, int32> c = 3; }",
    "message A { oneof o { string a = 1; B b = 2; } }",
    "message A { reserved 3, 5 to max; reserved \"x\"; extensions 100 to 199; message B {} ; enum C { X = 0; } }",
    "message A { optional group G = 1 { required int32 x = 1; } message message = 2; enum enum = 3; }",
    "enum E { option allow_alias = true; A = 0; B = -1 [deprecated = true]; C = 0x1F; reserved 4; }",
    "service S { option deprecated = true; }",
    "service S { rpc Say (Hello) returns (stream Hello) { option (google.api.http) = { get: \"/x\" }; } }",
    "service S { rpc Two(stream a.B) returns (C); }",
    "/* a comment */ extend Foo { optional int32 bar = 126; } // and another",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_definitions(text: str) -> None:
    check_proto(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("message", "line 1: expected a name, got the end"),
        ("message A {", "line 1: expected a name, got the end"),
        ("message A {\n string a;\n}", "line 2: expected =, got ;"),
        ("message A {\n string a = x;\n}", "line 2: expected a number, got x"),
        ("hello", "line 1: expected a definition such as message or service, got hello"),
        ('syntax = "proto3', "line 1: unexpected '\"'"),
        ("service S { rpc A (B); }", "line 1: expected returns, got ;"),
        ("message A { option x = {(}); }", "expected ), got }"),
        ("message A {" * 40, "nested deeper than 32 levels"),
        ("}", "expected a definition"),
        ("message A { map<a", "expected ,, got the end"),
        ("\u00e9", "unexpected"),
    ],
)
def test_what_is_none(text: str, message: str) -> None:
    with pytest.raises(ProtoError) as raised:
        check_proto(text)
    assert message in str(raised.value)


WORDS = [
    *("message", "enum", "service", "rpc", "returns", "oneof", "map", "group", "option", "stream", "repeated"),
    *("A", "=", "1", "{", "}", "(", ")", "<", ">", ";", ",", "[", "]", "'x'"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join) | st.text())
def test_any_text_is_one_or_an_error(text: str) -> None:
    try:
        check_proto(text)
    except ProtoError:
        return


def test_a_descriptor_set() -> None:
    found = descriptor_pb2.FileDescriptorSet(file=[descriptor_pb2.FileDescriptorProto(name="a.proto")])
    content = base64.b64encode(found.SerializeToString()).decode()

    assert validate(ProtoSpec, {"content": content}).content == content
    with pytest.raises(SchemaError, match="not a Protocol Buffers definition"):
        validate(ProtoSpec, {"content": content[:-4]})
