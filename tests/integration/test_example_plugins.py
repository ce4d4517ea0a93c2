"""The greetings through the library: one plugin in each language, and all do the same and refuse the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.proxy_wasm import Limits, LogLevel, Plugin, Refused, Response

BUILT = Path(__file__).resolve().parents[2] / ".build" / "plugins"
# Little, so that a plugin which keeps anything of its requests soon runs out of it. Go collects its garbage when there is as
# much again as it uses, and takes memory by 4 MiB.
MEMORY_BYTES = 8 * 1024 * 1024
GO_MEMORY_BYTES = 2 * MEMORY_BYTES
GREETINGS = ("c-greeting", "assemblyscript-greeting", "rust-greeting", "go-greeting")
# Their words about text that is no JSON are those of a library.
FOREIGN_JSON = ("rust-greeting", "go-greeting")
KEYS = ("value", "valeu", "reply_path", "reply_status")

UPSTREAM = Response(200, [("server", "upstream")])


def load(name: str, configuration: bytes) -> Plugin:
    path = BUILT / f"{name}.wasm"
    assert path.is_file(), f"{path} is missing: run `make plugins`"
    limits = Limits(memory_bytes=GO_MEMORY_BYTES if name.startswith("go-") else MEMORY_BYTES)
    return Plugin.load(path, name="greeting", configuration=configuration, limits=limits, log_level=LogLevel.INFO)


@pytest.fixture(params=GREETINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def greeting(name: str) -> Iterator[Plugin]:
    """On a route; a test puts it on others, with configurations of its own."""
    with load(name, b'{"value": "hello"}') as plugin:
        yield plugin


def test_a_greeting_sets_its_header_and_lets_the_request_pass(greeting: Plugin) -> None:
    stream = greeting.request(path="/hello", headers={"user-agent": "test"}, response=UPSTREAM)
    assert stream.forwarded.headers == {"user-agent": "test"}
    assert stream.response.headers == {"server": "upstream", "x-greeting": "hello"}
    assert stream.local_reply is None


def test_a_greeting_replaces_the_header_of_the_upstream(greeting: Plugin) -> None:
    other = greeting.sibling(b'{"value": "mine", "header": "Server"}')
    assert other.request(response=UPSTREAM).response.headers == {"server": "mine"}


@pytest.mark.parametrize("target", ["/blocked", "/blocked?a=/x", "/blocked?"])
def test_a_greeting_answers_its_path_by_itself(greeting: Plugin, target: str) -> None:
    conf = b'{"value": "v", "reply_path": "/blocked", "reply_status": 451, "reply_body": "no\\n"}'
    stream = greeting.sibling(conf).request(path=target)
    assert stream.local_reply is not None
    assert (stream.response.status, stream.response.body) == (451, b"no\n")
    # The Rust SDK has no parameter for them.
    assert stream.local_reply.details in ("greeting", "")
    assert not stream.was_forwarded


@pytest.mark.parametrize("target", ["/", "/blocked/", "/block", "/Blocked", "/?/blocked"])
def test_other_paths_pass(greeting: Plugin, target: str) -> None:
    stream = greeting.sibling(b'{"value": "v", "reply_path": "/blocked"}').request(path=target)
    assert stream.forwarded.path == target
    assert stream.response.headers == {"x-greeting": "v"}


def test_each_plugin_context_has_its_own_settings(greeting: Plugin) -> None:
    others = [greeting.sibling(b'{"value": "%d"}' % number) for number in range(300)]
    for number in (0, 299, 43):
        assert others[number].request().response.headers == {"x-greeting": str(number)}


def test_memory_does_not_grow_with_requests(greeting: Plugin) -> None:
    """Twice as many bytes of paths as there is memory, each compared with the path that is answered."""
    blocking = greeting.sibling(b'{"value": "v", "reply_path": "/blocked"}')
    path = "/blocked?" + "x" * 30_000
    for _ in range(2 * GO_MEMORY_BYTES // 30_000):
        assert blocking.request(path=path).local_reply is not None, "the plugin could no longer read its path"


def test_a_text_may_hold_any_character(greeting: Plugin) -> None:
    other = greeting.sibling(rb'{"value": "\u00e9 \ud83d\ude00 \"\\\/", "reply_status": 200}')
    assert other.request().response.headers == {"x-greeting": 'é 😀 "\\/'}


@pytest.mark.parametrize(
    ("conf", "complaint"),
    [
        (b"", "a JSON object was expected"),
        (b"[]", "a JSON object was expected"),
        (b"{}", "one line of text is expected for value"),
        (b'{"value": ""}', "one line of text is expected for value"),
        (b'{"value": "a\\r\\nb"}', "one line of text is expected for value"),
        (b'{"value": "a", "header": "x y"}', "not a header name: x y"),
        (b'{"value": "a", "header": ""}', "not a header name: "),
        (b'{"value": 1}', "a string is expected for value"),
        (b'{"value": "a", "valeu": "b"}', "unknown key valeu"),
        (b'{"value": "a", "reply_status": "403"}', "a number from 200 to 599 is expected for reply_status"),
        (b'{"value": "a", "reply_status": 99}', "a number from 200 to 599 is expected for reply_status"),
        (b'{"value": "a", "reply_status": 1e2}', "a number must be whole"),
        (b'{"value": "a", "reply_status": 0200}', "a number with a leading zero"),
        (b'{"value": "a", "reply_status": 9999999999999999}', "a number is too long"),
        (b'{"value": "a", "reply_path": "blocked"}', "a path that begins with / is expected for reply_path"),
        (b'{"value": true}', "a value must be a string or a whole number"),
        (b'{"value": "a",}', "a string was expected"),
        (b'{"value": "a"', "a comma or the end of the object was expected"),
        (b'{"value" "a"}', "a colon was expected after a key"),
        (b'{"value": "a', "a string without end"),
        (b'{"value": "a\nb"}', "a control character in a string"),
        (b'{"value": "\\x"}', "an unknown escape in a string"),
        (b'{"value": "\\u12g4"}', "an unknown escape in a string"),
        (b'{"value": "a"} {}', "text after the object"),
    ],
)
def test_a_bad_configuration_is_refused_with_its_reason(greeting: Plugin, name: str, conf: bytes, complaint: str) -> None:
    with pytest.raises(Refused) as refused:
        greeting.sibling(conf)
    assert refused.value.stage == "configure"
    [line] = refused.value.logs
    assert line.level is LogLevel.ERROR
    assert line.message.startswith("greeting: bad configuration: ")
    if name not in FOREIGN_JSON:
        assert line.message.endswith(complaint)
    elif complaint.endswith(KEYS):
        assert complaint.rpartition(" ")[2] in line.message
    assert greeting.sibling(b'{"value": "the VM lives on"}').request().response.headers["x-greeting"] == "the VM lives on"


def test_the_headers_plugin_touches_five_headers() -> None:
    with load("c-headers", b"") as plugin:
        stream = plugin.request(path="/p?q=1", headers={"user-agent": "test"}, response=UPSTREAM)
        assert stream.forwarded.headers == {"user-agent": "test", "x-plugin": "/p?q=1"}
        assert stream.response.headers == {"x-resp": "hello"}
