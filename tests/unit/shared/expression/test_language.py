"""The expression language by table: what is true of one request, and what is refused where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.expression.language import MOST_COMPARISONS, ExpressionError, compile_expression
from shared.expression.operators import OPERATORS
from shared.expression.request import BodyNeeded, RequestVariables

HEAD = (
    b"POST /Shop/7?x=1&x=2&y=%41+b&empty&n=-1.5e2&hex=0x1 HTTP/1.1\r\nHost: Foo.com:80\r\nCookie: a=1; b=2; a=3\r\n"
    b"X-Id: 5\r\nx_id: 6\r\nContent-Type: text/plain\r\nX-Forwarded-Proto: https"
)


def request(**more: object) -> RequestVariables:
    found = RequestVariables(b"POST", b"/Shop/7", b"foo.com", HEAD, ("10.1.2.3", 555), ("::1", 9080), "HTTP/1.1", 12)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def holds(document: object, **more: object) -> bool:
    return compile_expression(document).matches(request(**more))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uri", "/Shop/7"),
        ("request_uri", "/Shop/7?x=1&x=2&y=%41+b&empty&n=-1.5e2&hex=0x1"),
        ("args", "x=1&x=2&y=%41+b&empty&n=-1.5e2&hex=0x1"),
        ("query_string", "x=1&x=2&y=%41+b&empty&n=-1.5e2&hex=0x1"),
        ("is_args", "?"),
        ("method", "POST"),
        ("request_method", "POST"),
        ("host", "foo.com"),
        ("http_host", "Foo.com:80"),
        ("scheme", "https"),
        ("https", "on"),
        ("remote_addr", "10.1.2.3"),
        ("remote_port", "555"),
        ("server_addr", "::1"),
        ("server_port", "9080"),
        ("server_protocol", "HTTP/1.1"),
        ("content_length", "12"),
        ("http_content_length", "12"),
        ("content_type", "text/plain"),
        ("http_content_type", "text/plain"),
        ("http_x_id", "5, 6"),
        ("http_X-ID", "5, 6"),
        ("http_absent", None),
        ("arg_x", "1"),
        ("arg_y", "A b"),
        ("arg_empty", ""),
        ("arg_X", None),
        ("cookie_a", "1"),
        ("cookie_b", "2"),
        ("cookie_c", None),
        ("uri_param_id", "a b"),
        ("uri_param_other", None),
        ("route_id", "r"),
        ("status", 404),
    ],
)
def test_a_variable_has_the_value_that_the_request_gives_it(name: str, value: object) -> None:
    known = {"parameters": {b"id": b"a%20b"}, "route_id": "r", "status": 404}
    assert holds([[name, "==", value]], **known)
    assert not holds([[name, "~=", value]], **known)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], True),
        # Text and numbers.
        ([["arg_x", "==", "1"]], True),
        ([["arg_x", "1"]], True),
        ([["arg_x", "==", "1.0"]], False),
        ([["arg_x", "==", 1.0]], True),
        ([["arg_y", "==", 1]], False),
        ([["arg_y", "~=", 1]], True),
        ([["arg_n", "==", -150]], True),
        ([["arg_hex", "==", 1]], False),
        ([["arg_x", "==", True]], False),
        ([["arg_absent", "==", None]], True),
        ([["arg_x", "~=", None]], True),
        ([["arg_absent", "~=", "1"]], True),
        ([["arg_absent", "!", "==", "1"]], True),
        # Order.
        ([["arg_x", ">", 0]], True),
        ([["arg_x", ">", "0"]], True),
        ([["arg_x", ">", 1]], False),
        ([["arg_x", ">=", 1]], True),
        ([["arg_x", "<", 1]], False),
        ([["arg_x", "<=", 1]], True),
        ([["arg_n", "<", -149.5]], True),
        ([["arg_absent", "<", 1]], False),
        ([["arg_y", "<", 1]], False),
        # Regular expressions.
        ([["uri", "~~", "^/Shop/[0-9]+$"]], True),
        ([["uri", "~~", "shop"]], False),
        ([["uri", "~*", "SHOP"]], True),
        ([["arg_absent", "~~", ".*"]], False),
        ([["arg_absent", "!", "~~", ".*"]], True),
        # Sets and networks.
        ([["arg_x", "in", ["1", "2"]]], True),
        ([["arg_x", "IN", [1, 2]]], False),
        ([["arg_x", "!", "in", ["3"]]], True),
        ([["arg_x", "in", []]], False),
        ([["arg_absent", "in", ["1", None]]], True),
        ([["arg_x", "has", "1"]], False),
        ([["remote_addr", "ipmatch", "10.0.0.0/8"]], True),
        ([["remote_addr", "ipmatch", ["192.0.2.1", "10.1.2.3"]]], True),
        ([["remote_addr", "ipmatch", ["::/0", "10.1.2.4"]]], False),
        ([["remote_addr", "!", "ipmatch", ["::/0"]]], True),
        ([["server_addr", "ipmatch", ["::1/128"]]], True),
        ([["arg_x", "ipmatch", "0.0.0.0/0"]], False),
        # Groups.
        ([["arg_x", "1"], ["uri", "~~", "^/Shop"]], True),
        ([["arg_x", "1"], ["uri", "/"]], False),
        (["OR", ["arg_x", "2"], ["uri", "/Shop/7"]], True),
        (["or", ["arg_x", "2"], ["uri", "/"]], False),
        (["!OR", ["arg_x", "2"], ["uri", "/"]], True),
        (["AND", ["arg_x", "1"], ["uri", "/"]], False),
        (["!AND", ["arg_x", "1"], ["uri", "/"]], True),
        ([["OR", ["arg_x", "2"], [["arg_x", "1"], ["uri", "/Shop/7"]]], ["!AND", ["host", "x"], ["host", "y"]]], True),
    ],
)
def test_an_expression_holds_or_not(document: object, expected: bool) -> None:
    assert holds(document) == expected


@pytest.mark.parametrize(
    ("document", "location", "text"),
    [
        ({}, (), "expected an array, got dict"),
        (["arg_x", "==", "1"], (), "rule should be wrapped inside brackets"),
        ([["arg_x", "=", "1"]], (0,), "invalid operator '=', expected one of == ~= > >= < <= ~~ ~* in has ipmatch"),
        ([["arg_x"]], (0,), "invalid expression, expected [variable, operator, constant]"),
        ([[]], (0,), "rule too short"),
        ([["arg_x", "=="]], (0,), "rule too short: == needs a constant"),
        ([["a", "b", "c", "d"]], (0,), "bad 'not' expression, expected [variable, \"!\", operator, constant]"),
        ([[7, "==", 1]], (0, 0), "expected the name of a variable"),
        ([["arg_x", "1"], 5], (1,), "expected an array: a comparison, or a group of expressions"),
        (["OR", ["arg_x", "1"]], (), "rule too short: OR needs two expressions at least"),
        (["OR", ["arg_x", "1"], ["AND", ["x"]]], (2,), "rule too short: AND needs two expressions at least"),
        ([["urii", "x"]], (0, 0), 'unknown variable "urii", did you mean "uri"?'),
        ([["http_", "x"]], (0, 0), "unknown variable"),
        ([["uri", ["x"]]], (0, 1), 'expected a string, number, boolean or null, got ["x"]'),
        ([["uri", ">", "x"]], (0, 2), 'expected a number, got "x"'),
        ([["uri", "!", ">", None]], (0, 3), "expected a number, got null"),
        ([["uri", "~~", "("]], (0, 2), "invalid regular expression: missing ): ("),
        ([["uri", "~~", "(?=a)b"]], (0, 2), "invalid regular expression: invalid perl operator: (?="),
        ([["uri", "~~", 5]], (0, 2), "expected a regular expression, got 5"),
        ([["uri", "in", "x"]], (0, 2), 'expected an array, got "x"'),
        ([["remote_addr", "ipmatch", "::1/129"]], (0, 2), 'invalid address "::1/129"'),
        ([["remote_addr", "ipmatch", [1]]], (0, 2), "expected an address or an array of addresses, got [1]"),
        ([["post_arg.a..b", "x"]], (0, 0), 'invalid path "a..b"'),
        ([["arg_x", "1"]] * (MOST_COMPARISONS + 1), (), f"too many comparisons, expected at most {MOST_COMPARISONS}"),
    ],
)
def test_what_does_not_compile_says_where_and_why(document: object, location: tuple[int, ...], text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(document)
    assert caught.value.location == location
    assert str(caught.value).startswith(text)


def test_what_is_known_later_is_refused_where_a_route_is_sought() -> None:
    with pytest.raises(ExpressionError, match='"status" is not known before a route is found'):
        compile_expression([["status", "==", 200]], routed=False)


def test_an_expression_knows_what_it_reads() -> None:
    expression = compile_expression([["arg_x", "1"], ["OR", ["uri", "/"], ["post_arg_y", "!", "==", "1"]]])
    assert (set(expression.names), expression.needs_body) == ({"arg_x", "uri", "post_arg_y"}, True)
    assert not compile_expression([["arg_post_arg_y", "1"]]).needs_body


def test_no_regular_expression_takes_long() -> None:
    """Backtracking engines need hours for this one, and this test would never end."""
    slow = compile_expression([["uri", "~~", "(a*)*(a|aa)*b$"]])
    assert not slow.matches(request(path=b"/" + b"a" * 8000))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
WORDS = st.sampled_from(["OR", "AND", "!OR", "!", "arg_x", "uri", "post_arg.a", "status", *OPERATORS])


@given(st.recursive(SCALARS | WORDS, lambda inner: st.lists(inner, max_size=4), max_leaves=25))
def test_any_document_compiles_or_is_refused_and_what_compiles_runs(document: object) -> None:
    try:
        expression = compile_expression(document)
    except ExpressionError as error:
        found = document
        for index in error.location:
            assert isinstance(found, list)
            found = found[index]
    else:
        try:
            assert expression.matches(request()) in (True, False)
        except BodyNeeded:
            assert expression.needs_body


@given(st.binary(max_size=60), st.text(max_size=20))
def test_no_request_makes_a_comparison_fail(value: bytes, name: str) -> None:
    asked = request(opened=b"GET /?" + value + b" HTTP/1.1\r\nX: " + value + b"\r\nCookie: " + value)
    for operator, wanted in (("==", 1), (">", 1), ("~~", "a"), ("ipmatch", "::/0"), ("in", ["x"])):
        for variable in ("args", "http_x", f"arg_{name or 'x'}", f"cookie_{name or 'x'}"):
            compile_expression([[variable, operator, wanted]]).matches(asked)
