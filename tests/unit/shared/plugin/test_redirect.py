"""redirect: where the client is sent."""

from __future__ import annotations

import pytest

from tests.support.native import Native, refusal


@pytest.mark.parametrize(
    ("conf", "target", "expected"),
    [
        ({"uri": "/new"}, "/p", (302, "/new")),
        ({"uri": "/new", "ret_code": 301}, "/p?a", (301, "/new")),
        ({"uri": "$uri/test/$arg_n"}, "/p?n=1", (302, "/p/test/1")),
        ({"uri": "https://$host$request_uri"}, "/p?n=1", (302, "https://t/p?n=1")),
        ({"uri": "/new", "append_query_string": True}, "/p?n=1", (302, "/new?n=1")),
        ({"uri": "/new?a", "append_query_string": True}, "/p?n=1", (302, "/new?a&n=1")),
        ({"uri": "/new", "append_query_string": True}, "/p", (302, "/new")),
        ({"uri": "/a b/é", "encode_uri": True}, "/p", (302, "/a%20b/%C3%A9")),
        ({"regex_uri": ["^/test/(.*)$", "/$1"]}, "/test/hello", (302, "/hello")),
        ({"regex_uri": ["^/test/(.*)$", "http://a.test/$1"]}, "/test/x%2Fy", (302, "http://a.test/x%2Fy")),
        ({"uri": "/$arg_n"}, "/p?n=%0d%0aSet-Cookie:a", (302, "/%0D%0ASet-Cookie:a")),
    ],
)
def test_location(conf: dict[str, object], target: str, expected: tuple[int, str]) -> None:
    got = Native({"redirect": conf}).reply(target)
    assert (got.status, got["location"]) == expected
    assert [name for name, _ in got.fields].count("set-cookie") == 0


@pytest.mark.parametrize(("method", "code"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)])
def test_http_to_https(method: str, code: int) -> None:
    got = Native({"redirect": {"http_to_https": True}}).reply("/p?x=1", method=method)
    assert (got.status, got["location"]) == (code, "https://t/p?x=1")


def test_https_stays() -> None:
    assert Native({"redirect": {"http_to_https": True}}, scheme="https").request() is not None


def test_an_expression_that_does_not_match_lets_the_request_pass() -> None:
    assert Native({"redirect": {"regex_uri": ["^/test", "/x"]}}).request("/p") is not None


def test_the_port_of_https_is_metadata() -> None:
    scene = Native({"redirect": {"http_to_https": True}}, metadata={"redirect": {"https_port": 8443}})
    assert scene.reply("/p")["location"] == "https://t:8443/p"


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, "value should match only one schema, but matches none"),
        ({"uri": "/a", "regex_uri": ["a", "b"]}, "matches both uri and regex_uri"),
        ({"http_to_https": True, "append_query_string": True}, "only one of `http_to_https` and `append_query_string`"),
        ({"uri": "/"}, "string too short"),
        ({"uri": "/a", "ret_code": 100}, "expected 100 to be at least 200"),
        ({"uri": "/a", "ret_code": "301"}, "wrong type: expected integer, got string"),
        ({"regex_uri": ["a"]}, "expect array to have at least 2 items"),
        ({"regex_uri": ["a", "b", "c"]}, "expect array to have at most 2 items"),
        ({"regex_uri": ["(", "b"]}, "invalid regex_uri"),
        ({"uri": "/$nothing"}, "unknown variable"),
        ({"uri": "/a", "encode_uri": "yes"}, "wrong type: expected boolean"),
    ],
    ids=str,
)
def test_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("redirect", conf)
