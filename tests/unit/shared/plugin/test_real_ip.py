"""real-ip: whose address the request has."""

from __future__ import annotations

import pytest

from tests.support.native import Native, refusal

LIST = {"ip-restriction": {"whitelist": ["1.2.3.4", "2001:db8::9"]}}


@pytest.mark.parametrize(
    ("conf", "target", "fields", "expected"),
    [
        ({"source": "arg_ip"}, "/p?ip=1.2.3.4", (), "1.2.3.4"),
        ({"source": "http_x_client"}, "/p", ("X-Client: 1.2.3.4:99",), "1.2.3.4"),
        ({"source": "http_x_client"}, "/p", ("X-Client: [2001:db8::9]:99",), "2001:db8::9"),
        ({"source": "arg_ip"}, "/p?ip=nonsense", (), "10.0.0.1"),
        ({"source": "arg_ip"}, "/p?ip=1.2.3.0/24", (), "10.0.0.1"),
        ({"source": "arg_ip"}, "/p", (), "10.0.0.1"),
        ({"source": "arg_ip", "trusted_addresses": ["10.0.0.0/8"]}, "/p?ip=1.2.3.4", (), "1.2.3.4"),
        ({"source": "arg_ip", "trusted_addresses": ["11.0.0.0/8"]}, "/p?ip=1.2.3.4", (), "10.0.0.1"),
        ({"source": "http_x_forwarded_for"}, "/p", ("X-Forwarded-For: 9.9.9.9, 1.2.3.4",), "1.2.3.4"),
        ({"source": "http_x_forwarded_for"}, "/p", (), "10.0.0.1"),
        (
            {"source": "http_x_forwarded_for", "trusted_addresses": ["10.0.0.0/8"], "recursive": True},
            "/p",
            ("X-Forwarded-For: 9.9.9.9, 1.2.3.4, 10.5.5.5",),
            "1.2.3.4",
        ),
        (
            {"source": "http_x_forwarded_for", "trusted_addresses": ["10.0.0.0/8"], "recursive": True},
            "/p",
            ("X-Forwarded-For: 10.1.1.1", "X-Forwarded-For: 10.5.5.5"),
            "10.1.1.1",
        ),
    ],
)
def test_the_address(conf: dict[str, object], target: str, fields: tuple[str, ...], expected: str) -> None:
    plugins = {"real-ip": conf, "proxy-rewrite": {"headers": {"set": {"X-Seen": "$remote_addr"}}}}
    got = Native(plugins).request(target, *fields)
    assert got is not None
    assert (got["x-real-ip"], got["x-seen"]) == (expected, expected)


def test_plugins_after_it_see_that_address() -> None:
    assert Native({"real-ip": {"source": "arg_ip"}, **LIST}).request("/p?ip=1.2.3.4") is not None
    assert Native({"real-ip": {"source": "arg_ip"}, **LIST}).request("/p?ip=1.2.3.5") is None


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, 'property "source" is required'),
        ({"source": ""}, "string too short"),
        ({"source": "nothing"}, "unknown variable"),
        ({"source": "post_arg_ip"}, "body is not here yet"),
        ({"source": "arg_ip", "trusted_addresses": ["x"]}, "invalid address"),
        ({"source": "arg_ip", "trusted_addresses": []}, "at least 1 items"),
        ({"source": "arg_ip", "recursive": "true"}, "wrong type: expected boolean"),
    ],
    ids=str,
)
def test_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("real-ip", conf)
