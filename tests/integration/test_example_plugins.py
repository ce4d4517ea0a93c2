"""The greetings in the real host: one plugin in each language, and all do the same and refuse the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import PluginRefused
from shared.proxy_wasm.limits import Limits
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import HttpContext, PluginContext, PluginVM, VmSettings
from tests.support.guest import compiled

BUILT = Path(__file__).resolve().parents[2] / ".build" / "plugins"
# Little, so that a plugin which keeps anything of its requests soon runs out of it. Go collects its garbage when there is as
# much again as it uses, and takes memory by 4 MiB.
MEMORY_BYTES = 8 * 1024 * 1024
GO_MEMORY_BYTES = 2 * MEMORY_BYTES
GREETINGS = ("c-greeting", "assemblyscript-greeting", "rust-greeting", "go-greeting")
# Their words about text that is no JSON are those of a library.
FOREIGN_JSON = ("rust-greeting", "go-greeting")
KEYS = ("value", "valeu", "reply_path", "reply_status")

REQUEST = b"GET %b HTTP/1.1\r\nhost: example.com\r\nuser-agent: test\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nserver: upstream\r\n"


class Facts:
    """A request that nothing special is known about."""

    client_address = ("127.0.0.1", 50000)
    local_address = ("127.0.0.1", 9080)
    connection_id = 1
    protocol = "HTTP/1.1"
    upstream_address = None
    start_time_ns = 0
    request_bytes = 0
    response_bytes = 0
    route_name = "route"

    @property
    def facts(self) -> Facts:
        return self

    def __init__(self) -> None:
        self.properties: dict[bytes, bytes] = {}

    def plugin_properties(self) -> dict[bytes, bytes]:
        return self.properties


class Observer:
    def __init__(self) -> None:
        self.lines: list[tuple[LogLevel, str]] = []

    def log(self, level: LogLevel, context_id: int, message: str) -> None:
        self.lines.append((level, message))

    def effects(self, stream: HttpContext, outcome: Outcome) -> None:
        pytest.fail("an example plugin acted on another stream")

    def set_tick_period(self, plugin_context: PluginContext, milliseconds: int) -> None:
        assert milliseconds == 0, "an example plugin asked for a timer"

    def done(self, plugin_context: PluginContext) -> None:
        pytest.fail("an example plugin delayed its end")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def observer() -> Observer:
    return Observer()


def start(engine: Engine, name: str, observer: Observer) -> PluginVM:
    path = BUILT / f"{name}.wasm"
    assert path.is_file(), f"{path} is missing: run `make plugins`"
    settings = VmSettings("greeting", Limits(memory_bytes=GO_MEMORY_BYTES if name.startswith("go-") else MEMORY_BYTES))
    return PluginVM(engine, compiled(engine, path.read_bytes()), settings, observer)


@pytest.fixture(params=GREETINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def greeting(name: str, engine: Engine, observer: Observer) -> Iterator[PluginVM]:
    vm = start(engine, name, observer)
    yield vm
    vm.close()


def stream(root: PluginContext) -> HttpContext:
    return root.open(Facts())


def test_a_greeting_sets_its_header_and_lets_the_request_pass(greeting: PluginVM) -> None:
    context = stream(greeting.create_root(b'{"value": "hello"}'))
    assert context.request_headers(REQUEST % b"/hello", eos=True) is None
    assert context.response_headers(RESPONSE, eos=True) == RESPONSE + b"x-greeting: hello\r\n"
    context.finish()


def test_a_greeting_replaces_the_header_of_the_upstream(greeting: PluginVM) -> None:
    context = stream(greeting.create_root(b'{"value": "mine", "header": "Server"}'))
    context.request_headers(REQUEST % b"/", eos=True)
    changed = context.response_headers(RESPONSE, eos=True)
    assert isinstance(changed, bytes)
    assert changed.lower() == b"http/1.1 200 ok\r\nserver: mine\r\n"
    context.finish()


@pytest.mark.parametrize("target", [b"/blocked", b"/blocked?a=/x", b"/blocked?"])
def test_a_greeting_answers_its_path_by_itself(greeting: PluginVM, target: bytes) -> None:
    conf = b'{"value": "v", "reply_path": "/blocked", "reply_status": 451, "reply_body": "no\\n"}'
    context = stream(greeting.create_root(conf))
    outcome = context.request_headers(REQUEST % target, eos=True)
    assert isinstance(outcome, Outcome)
    assert outcome.reply is not None
    assert (outcome.reply.status, outcome.reply.body) == (451, b"no\n")
    # The Rust SDK has no parameter for them.
    assert outcome.reply.details in ("greeting", "")
    context.finish()


@pytest.mark.parametrize("target", [b"/", b"/blocked/", b"/block", b"/Blocked", b"/?/blocked"])
def test_other_paths_pass(greeting: PluginVM, target: bytes) -> None:
    context = stream(greeting.create_root(b'{"value": "v", "reply_path": "/blocked"}'))
    assert context.request_headers(REQUEST % target, eos=True) is None
    context.finish()


def test_each_plugin_context_has_its_own_settings(greeting: PluginVM) -> None:
    roots = [greeting.create_root(b'{"value": "%d"}' % number) for number in range(300)]
    for number in (0, 299, 43):
        context = stream(roots[number])
        context.request_headers(REQUEST % b"/", eos=True)
        assert context.response_headers(RESPONSE, eos=True) == RESPONSE + b"x-greeting: %d\r\n" % number
        context.finish()


def test_memory_does_not_grow_with_requests(greeting: PluginVM) -> None:
    """Twice as many bytes of paths as there is memory, each compared with the path that is answered."""
    root = greeting.create_root(b'{"value": "v", "reply_path": "/blocked"}')
    head = REQUEST % (b"/blocked?" + b"x" * 30_000)
    for _ in range(2 * GO_MEMORY_BYTES // 30_000):
        context = stream(root)
        outcome = context.request_headers(head, eos=True)
        assert isinstance(outcome, Outcome), "the plugin could no longer read its path"
        context.finish()


def test_a_text_may_hold_any_character(greeting: PluginVM) -> None:
    context = stream(greeting.create_root(rb'{"value": "\u00e9 \ud83d\ude00 \"\\\/", "reply_status": 200}'))
    context.request_headers(REQUEST % b"/", eos=True)
    expected = RESPONSE + 'x-greeting: é 😀 "\\/\r\n'.encode()
    assert context.response_headers(RESPONSE, eos=True) == expected
    context.finish()


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
def test_a_bad_configuration_is_refused_with_its_reason(
    greeting: PluginVM, name: str, observer: Observer, conf: bytes, complaint: str
) -> None:
    with pytest.raises(PluginRefused):
        greeting.create_root(conf)
    [(level, line)] = observer.lines
    assert level is LogLevel.ERROR
    assert line.startswith("greeting: bad configuration: ")
    if name not in FOREIGN_JSON:
        assert line.endswith(complaint)
    elif complaint.endswith(KEYS):
        assert complaint.rpartition(" ")[2] in line
    greeting.create_root(b'{"value": "the VM lives on"}')


def test_the_headers_plugin_touches_five_headers(engine: Engine, observer: Observer) -> None:
    vm = start(engine, "c-headers", observer)
    context = stream(vm.create_root(b""))
    head = REQUEST % b"/p?q=1"
    assert context.request_headers(head, eos=True) == head + b"x-plugin: /p?q=1\r\n"
    assert context.response_headers(RESPONSE, eos=True) == b"HTTP/1.1 200 OK\r\nx-resp: hello\r\n"
    context.finish()
    vm.close()
