"""proxy-rewrite: what the upstream gets instead."""

from __future__ import annotations

import pytest

from tests.support.native import Native, refusal

REGEX = {"regex_uri": ["^/iresty/(.*)/(.*)$", "/$1-$2?from=$0"]}


@pytest.mark.parametrize(
    ("conf", "target", "expected"),
    [
        ({"uri": "/new"}, "/p", "/new"),
        ({"uri": "/new"}, "/p?a=1&b", "/new?a=1&b"),
        ({"uri": "/new?x=1"}, "/p", "/new?x=1"),
        ({"uri": "/new?x=1"}, "/p?a=1", "/new?x=1&a=1"),
        ({"uri": "/new"}, "/p?", "/new?"),
        ({"uri": "/$arg_to/x"}, "/p?to=here", "/here/x?to=here"),
        ({"uri": "/u${arg_to}d?by=$remote_addr"}, "/p?to=n", "/und?by=10.0.0.1&to=n"),
        ({"uri": "/$arg_absent/x"}, "/p", "/x"),
        ({"uri": "/a b|c"}, "/p", "/a%20b%7Cc"),
        ({"uri": "/v2$uri"}, "/a%20b/c", "/v2/a%20b/c"),
        # A value adds neither a query, nor an escape, nor a parameter.
        ({"uri": "/$arg_to"}, "/p?to=a%3Fb%23c%25d;e", "/a%3Fb%23c%25d%3Be?to=a%3Fb%23c%25d;e"),
        ({"uri": "/x?to=$arg_to"}, "/p?to=a%26b%3D%23", "/x?to=a%26b%3D%23&to=a%26b%3D%23"),
        (REGEX, "/iresty/a/b", "/a-b?from=/iresty/a/b"),
        (REGEX, "/iresty/a/b?q", "/a-b?from=/iresty/a/b&q"),
        (REGEX, "/other", "/other"),
        # The first expression that matches, and only its match.
        ({"regex_uri": ["a", "x", "b", "y"]}, "/ba", "/bx"),
        ({"regex_uri": ["q", "x", "b", "y"]}, "/bb", "/yb"),
        # Escapes stay what they are: an expression cannot turn %2F into a slash.
        ({"regex_uri": ["^/a/(.*)", "/$1"]}, "/a/b%2Fc", "/b%2Fc"),
        ({"regex_uri": ["^/a/(.*)", "$1"]}, "/a/b", "/b"),
        ({"use_real_request_uri_unsafe": True}, "/a%2Fb?c=%20", "/a%2Fb?c=%20"),
        ({"use_real_request_uri_unsafe": True, "regex_uri": [r"\?c=(.*)$", "/$1"]}, "/a?c=d", "/a/d"),
    ],
)
def test_the_target(conf: dict[str, object], target: str, expected: str) -> None:
    got = Native({"proxy-rewrite": conf}).request(target)
    assert got is not None
    assert got.line == f"GET {expected} HTTP/1.1"


@pytest.mark.parametrize("value", ["..", "../admin", "a/../../b", ".", "%2e%2e/x"])
def test_a_variable_cannot_leave_its_folder(value: str) -> None:
    scene = Native({"proxy-rewrite": {"uri": "/files/$arg_name"}})
    assert scene.reply(f"/p?name={value}").status == 400


def test_a_path_without_one_meaning_is_refused() -> None:
    scene = Native({"proxy-rewrite": {"regex_uri": ["^/a(.*)$", "/x%2F..$1"]}})
    assert scene.reply("/a/b").status == 400


@pytest.mark.parametrize(
    ("headers", "sent", "expected"),
    [
        ({"X-A": "1"}, ("X-A: 0", "X-A: 9"), ["1"]),
        ({"set": {"X-A": 5}}, (), ["5"]),
        ({"set": {"X-A": 1.5}}, (), ["1.5"]),
        ({"add": {"X-A": "2"}}, ("X-A: 1",), ["1", "2"]),
        ({"remove": ["x-a"]}, ("X-A: 1", "x-a: 2"), []),
        ({"set": {"X-A": ""}}, ("X-A: 1",), []),
        ({"add": {"X-A": "2"}, "set": {"X-A": "3"}}, ("X-A: 1",), ["3"]),
        ({"set": {"X-A": "3"}, "remove": ["X-A"]}, (), []),
        ({"set": {"X-A": "$remote_addr:$remote_port $http_x_b $arg_c"}}, ("X-B: b",), ["10.0.0.1:1234 b c"]),
        ({"set": {"X-A": "costs $$5"}}, (), ["costs $5"]),
        # A value from a client that would be a line of its own.
        ({"set": {"X-A": "$arg_evil"}}, (), ["a%0D%0AX-B: c"]),
    ],
)
def test_headers(headers: dict[str, object], sent: tuple[str, ...], expected: list[str]) -> None:
    got = Native({"proxy-rewrite": {"headers": headers}}).request("/p?c=c&evil=a%0d%0aX-B:%20c", *sent)
    assert got is not None
    assert got.all("x-a") == expected


def test_a_header_has_what_the_expression_found() -> None:
    conf = {"regex_uri": ["^/users/([0-9]+)$", "/u"], "headers": {"set": {"X-User": "$1"}}}
    got = Native({"proxy-rewrite": conf}).request("/users/42")
    assert got is not None
    assert (got.target, got["x-user"]) == ("/u", "42")


def test_host_and_method() -> None:
    scene = Native({"proxy-rewrite": {"host": "new.test:8080", "method": "POST"}})
    got = scene.request("/p")
    assert got is not None
    assert (got.line, got.all("host")) == ("POST /p HTTP/1.1", ["new.test:8080"])
    assert scene.response(b"hi").body == b"hi"


def test_a_host_from_a_client_is_checked() -> None:
    scene = Native({"proxy-rewrite": {"headers": {"set": {"Host": "$arg_h"}}}})
    got = scene.request("/p?h=a.test")
    assert got is not None
    assert got.all("host") == ["a.test"]
    assert scene.reply("/p?h=a%20b").status == 400


def test_a_head_in_the_place_of_a_get_brings_no_body() -> None:
    scene = Native({"proxy-rewrite": {"method": "HEAD"}})
    scene.request("/p")
    # What the upstream would have sent to a GET.
    head = scene.response(fields=("X-Size: 5",))
    assert (head["content-length"], head.body, scene.recorded.keep) == ("0", b"", True)


def test_a_get_in_the_place_of_a_head_sends_no_body() -> None:
    for pieces in ((b"hello",), (b"he", b"llo")):
        scene = Native({"proxy-rewrite": {"method": "GET"}})
        scene.request("/p", method="HEAD")
        answer = scene.response(*pieces)
        assert (answer["content-length"], answer.body) == ("5", b"")


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, '$.plugins["proxy-rewrite"] expect object to have at least 1 properties'),
        ({"uri": "new"}, 'property "uri" validation failed: failed to match pattern'),
        ({"uri": 5}, 'property "uri" validation failed: wrong type: expected string, got number'),
        ({"uri": "/" + "a" * 4096}, "string too long"),
        ({"uri": "/$nothing"}, 'unknown variable "nothing"'),
        ({"uri": "/$post_arg_x"}, "needs the request's body"),
        ({"regex_uri": ["a"]}, "expect array to have at least 2 items"),
        ({"regex_uri": ["a", "b", "c"]}, "The length of regex_uri should be an even number"),
        ({"regex_uri": ["(", "b"]}, "missing )"),
        ({"regex_uri": ["a", "$1"]}, "the expression has 0 groups"),
        ({"regex_uri": ["(?=a)", "b"]}, "invalid perl operator"),
        ({"method": "get"}, "matches none of the enum values"),
        ({"method": "CONNECT"}, "matches none of the enum values"),
        ({"host": "a b"}, "not a host with an optional port"),
        ({"host": "a/b"}, "not a host with an optional port"),
        ({"headers": {}}, "expect object to have at least 1 properties"),
        ({"headers": {"a b": "c"}}, "not a header name"),
        ({"headers": {"set": {"Content-Length": "1"}}}, "the gateway itself decides this header"),
        ({"headers": {"set": {"Transfer_Encoding": "x"}}}, "the gateway itself decides this header"),
        ({"headers": {"set": {"x": "a\nb"}}}, "expected no control characters"),
        ({"headers": {"set": {"x": None}}}, "wrong type: expected string, got null"),
        ({"headers": {"remove": "x"}}, "wrong type: expected array, got string"),
        ({"headers": {"add": []}}, "wrong type: expected object, got array"),
        ({"use_real_request_uri_unsafe": 1}, "wrong type: expected boolean"),
        ({"uris": "/a"}, 'additional properties forbidden, found uris, did you mean "uri"?'),
        ({"uri": "/a", "_meta": {"disabled": True}}, "additional properties forbidden, found disabled"),
    ],
    ids=str,
)
def test_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("proxy-rewrite", conf)
