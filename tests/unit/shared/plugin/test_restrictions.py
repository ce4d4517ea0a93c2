"""ip-restriction, ua-restriction, referer-restriction, uri-blocker and client-control: who and what does not pass."""

from __future__ import annotations

import pytest

from tests.support.native import Native, refusal

NETS = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("conf", "address", "passes"),
    [
        ({"whitelist": NETS}, "10.1.2.3", True),
        ({"whitelist": NETS}, "192.0.2.1", True),
        ({"whitelist": NETS}, "192.0.2.2", False),
        ({"whitelist": NETS}, "2001:db8:1::1", True),
        ({"whitelist": NETS}, "2001:db9::1", False),
        # A socket for both kinds tells IPv4 addresses so.
        ({"whitelist": NETS}, "::ffff:10.1.2.3", True),
        ({"blacklist": NETS}, "10.1.2.3", False),
        ({"blacklist": NETS}, "11.1.2.3", True),
    ],
)
def test_ip_restriction(conf: dict[str, object], address: str, passes: bool) -> None:
    scene = Native({"ip-restriction": conf}, address=(address, 1))
    if passes:
        assert scene.request() is not None
    else:
        got = scene.reply()
        assert (got.status, got.body) == (403, b'{"message":"Your IP address is not allowed"}\n')


def test_ip_restriction_in_other_words() -> None:
    got = Native({"ip-restriction": {"blacklist": ["10.0.0.1"], "message": "nö", "response_code": 404}}).reply()
    assert (got.status, got.body.decode(), got["content-type"]) == (404, '{"message":"nö"}\n', "application/json")


@pytest.mark.parametrize(
    ("conf", "agents", "passes"),
    [
        ({"allowlist": ["my-bot1", "(Baidu)Spider"]}, ["my-bot1/1.0"], True),
        ({"allowlist": ["my-bot1", "(Baidu)Spider"]}, ["BaiduSpider"], True),
        ({"allowlist": ["my-bot1"]}, ["other"], False),
        ({"denylist": ["bot"]}, ["a bot"], False),
        ({"denylist": ["bot"]}, ["curl"], True),
        ({"denylist": ["bot"]}, ["curl", "a bot"], False),
        ({"denylist": ["bot"]}, [], False),
        ({"denylist": ["bot"], "bypass_missing": True}, [], True),
        ({"allowlist": ["bot"], "bypass_missing": True}, [], True),
    ],
)
def test_ua_restriction(conf: dict[str, object], agents: list[str], passes: bool) -> None:
    scene = Native({"ua-restriction": conf})
    fields = [f"User-Agent: {agent}" for agent in agents]
    if passes:
        assert scene.request("/p", *fields) is not None
    else:
        assert scene.reply("/p", *fields).body == b'{"message":"Not allowed"}\n'


@pytest.mark.parametrize(
    ("conf", "referer", "passes"),
    [
        ({"whitelist": ["x.test", "*.y.test"]}, "http://x.test/a", True),
        ({"whitelist": ["x.test", "*.y.test"]}, "https://A.Y.test:80/", True),
        ({"whitelist": ["x.test", "*.y.test"]}, "https://y.test", False),
        ({"whitelist": ["x.test"]}, "https://x.test@evil.test/", False),
        ({"whitelist": ["x.test"]}, "http://[bad", False),
        ({"whitelist": ["x.test"]}, None, False),
        ({"whitelist": ["x.test"], "bypass_missing": True}, None, True),
        ({"whitelist": ["x.test"], "bypass_missing": True}, "no url", True),
        ({"blacklist": ["*.y.test"]}, "http://a.y.test", False),
        ({"blacklist": ["*.y.test"]}, "http://b.test", True),
    ],
)
def test_referer_restriction(conf: dict[str, object], referer: str | None, passes: bool) -> None:
    scene = Native({"referer-restriction": conf})
    fields = () if referer is None else (f"Referer: {referer}",)
    if passes:
        assert scene.request("/p", *fields) is not None
    else:
        assert scene.reply("/p", *fields).body == b'{"message":"Your referer host is not allowed"}\n'


@pytest.mark.parametrize(
    ("conf", "target", "passes"),
    [
        ({"block_rules": [r"root\.exe", r"root\.m+"]}, "/x/root.exe", False),
        ({"block_rules": [r"root\.exe", r"root\.m+"]}, "/x?name=root.mm", False),
        ({"block_rules": [r"root\.exe"]}, "/x/Root.exe", True),
        ({"block_rules": [r"root\.exe"], "case_insensitive": True}, "/x/Root.exe", False),
        # The path is matched in the form in which it goes to the upstream.
        ({"block_rules": ["^/admin"]}, "/x/../%61dmin", False),
        ({"block_rules": ["^/admin"]}, "//admin", False),
        ({"block_rules": ["a|b", "c"]}, "/d", True),
    ],
)
def test_uri_blocker(conf: dict[str, object], target: str, passes: bool) -> None:
    scene = Native({"uri-blocker": conf})
    assert (scene.request(target) is not None) is passes
    if not passes:
        assert (scene.answer.status, scene.answer.body) == (403, b"")


def test_uri_blocker_in_other_words() -> None:
    got = Native({"uri-blocker": {"block_rules": ["p"], "rejected_code": 410, "rejected_msg": "gone"}}).reply("/p")
    assert (got.status, got.body) == (410, b'{"error_msg":"gone"}\n')


def test_a_pattern_that_goes_back_for_ever_elsewhere_takes_no_time() -> None:
    scene = Native({"uri-blocker": {"block_rules": ["(a+)+$"]}})
    assert scene.request("/" + "a" * 4000 + "!") is not None


def test_client_control() -> None:
    scene = Native({"client-control": {"max_body_size": 4}})
    assert scene.request(method="POST", body=b"1234") is not None
    got = scene.reply(method="POST", body=b"12345")
    assert (got.status, got.body) == (413, b'{"error_msg":"request body too large"}\n')
    assert Native({"client-control": {"max_body_size": 0}}).request(method="POST", body=b"12345") is not None
    assert Native({"client-control": {}}).request(method="POST", body=b"12345") is not None


def test_client_control_counts_chunks() -> None:
    scene = Native({"client-control": {"max_body_size": 4}})
    scene.request("/p", "Transfer-Encoding: chunked", method="POST", body=b"123", eos=False)
    scene.exchange.request_body(b"4", False)
    assert not scene.recorded.client
    scene.exchange.request_body(b"5", False)
    assert scene.answer.status == 413
    assert scene.reply("/p", "Transfer-Encoding: chunked", method="POST", body=b"12345", eos=False).status == 413


LISTS = [("ip-restriction", "whitelist", "blacklist"), ("ua-restriction", "allowlist", "denylist")]
LISTS += [("referer-restriction", "whitelist", "blacklist")]


@pytest.mark.parametrize(("plugin", "one", "other"), LISTS)
def test_one_list(plugin: str, one: str, other: str) -> None:
    item = "10.0.0.1"
    assert "but matches none" in refusal(plugin, {})
    assert "but matches both" in refusal(plugin, {one: [item], other: [item]})
    assert "at least 1 items" in refusal(plugin, {one: []})
    assert "expected unique items" in refusal(plugin, {other: [item, item]})
    assert "wrong type: expected array, got string" in refusal(plugin, {one: item})
    assert "wrong type: expected string, got number" in refusal(plugin, {one: [5]})
    assert "string too short" in refusal(plugin, {one: [item], "message": ""})


@pytest.mark.parametrize(
    ("plugin", "conf", "text"),
    [
        ("ip-restriction", {"whitelist": ["10.0.0.0/33"]}, "invalid address"),
        ("ip-restriction", {"whitelist": ["::1/129"]}, "invalid address"),
        ("ip-restriction", {"whitelist": ["a.test"]}, "invalid address"),
        ("ip-restriction", {"whitelist": ["::1"], "response_code": 401}, "matches none of the enum values"),
        ("ua-restriction", {"allowlist": ["("]}, "missing )"),
        ("ua-restriction", {"allowlist": ["a"], "bypass_missing": "no"}, "wrong type: expected boolean"),
        ("referer-restriction", {"whitelist": ["a/b"]}, "failed to match pattern"),
        ("uri-blocker", {}, 'property "block_rules" is required'),
        ("uri-blocker", {"block_rules": []}, "at least 1 items"),
        ("uri-blocker", {"block_rules": ["("]}, "missing )"),
        ("uri-blocker", {"block_rules": ["a"], "rejected_code": 100}, "at least 200"),
        ("uri-blocker", {"block_rules": ["a"], "rejected_msg": ""}, "string too short"),
        ("client-control", {"max_body_size": -1}, "expected -1 to be at least 0"),
        ("client-control", {"max_body_size": "1m"}, "wrong type: expected integer"),
    ],
    ids=str,
)
def test_refused(plugin: str, conf: dict[str, object], text: str) -> None:
    assert text in refusal(plugin, conf)
