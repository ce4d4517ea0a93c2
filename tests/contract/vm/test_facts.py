"""What a plugin may ask and say: properties, time, logs, the status of calls, foreign functions."""

from __future__ import annotations

import struct
import time

import pytest

from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.vm import VmSettings
from tests.support.guest import Facts, Guest, console, open_stream

GET = b"GET /p/a?q=1&r HTTP/1.1\r\nHost: h:81\r\nReferer: ref\r\nUser-Agent: ua\r\nX-Request-Id: id1\r\nA: 1\r\na: 2\r\n"
OK = b"HTTP/1.1 404 Nope\r\nserver: up\r\n"


def printed(value: bytes) -> str:
    """As the console plugin prints bytes."""
    return "".join(chr(c) if 32 <= c < 127 and c != ord("%") else f"%{c:02x}" for c in value)


def path(dotted: str) -> str:
    return dotted.replace(".", "%00")


def asked(guest: Guest, *dotted: str, phase: str = "response_headers", facts: Facts | None = None) -> list[str]:
    stream = open_stream(guest.root(*(f"{phase} property {path(name)}" for name in dotted)), facts)
    stream.request_headers(GET, eos=True)
    stream.response_headers(OK, eos=True)
    stream.finish()
    return [line.removeprefix("property: ") for line in guest.take() if line.startswith("property: ")]


def integer(value: int) -> bytes:
    return struct.pack("<q", value)


PROPERTIES: dict[str, bytes] = {
    "plugin_name": b"plugin",
    "plugin_root_id": b"plugin",
    "plugin_vm_id": b"plugin",
    "request.path": b"/p/a?q=1&r",
    "request.url_path": b"/p/a",
    "request.query": b"q=1&r",
    "request.host": b"h:81",
    "request.scheme": b"http",
    "request.method": b"GET",
    "request.referer": b"ref",
    "request.useragent": b"ua",
    "request.id": b"id1",
    "request.headers.a": b"1,2",
    "request.headers.:path": b"/p/a?q=1&r",
    "request.protocol": b"HTTP/1.1",
    "request.time": integer(Facts.start_time_ns),
    "request.size": integer(4),
    "response.size": integer(5),
    "response.code": integer(404),
    "response.headers.server": b"up",
    "source.address": b"192.0.2.7:50000",
    "source.port": integer(50000),
    "destination.address": b"[::1]:9080",
    "destination.port": integer(9080),
    "connection.id": integer(17),
    "connection_id": integer(17),
    "connection.mtls": b"\0",
    "xds.route_name": b"route one",
    "route_name": b"route one",
    "response.headers": b"\2\0\0\0\7\0\0\0\3\0\0\0\6\0\0\0\2\0\0\0:status\x00404\0server\0up\0",
}


def test_the_scheme_is_how_the_client_came(guest: Guest) -> None:
    """The gateway says it in a field of its own."""
    for proto, scheme in ((b"https", "OK https"), (b"http", "OK http"), (b"httpsx", "OK http")):
        stream = open_stream(guest.root("request_headers get 0 :scheme"), Facts())
        stream.request_headers(GET + b"X-Forwarded-Proto: " + proto + b"\r\nX-Forwarded-Port: 1\r\n", eos=True)
        stream.finish()
        assert [line for line in guest.take() if line.startswith("get: ")] == [f"get: {scheme}"]


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_has_its_encoding(guest: Guest, name: str) -> None:
    expected = f"OK {printed(PROPERTIES[name])}"
    assert asked(guest, name, name + ".") == [expected, expected], "also with a NUL behind the path"


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_are_there_at_the_end_as_well(guest: Guest, name: str) -> None:
    assert asked(guest, name, phase="log") == [f"OK {printed(PROPERTIES[name])}"]


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "absent", "request", "request.absent", "request.headers.absent", "request.headers.A", "requestxheaders"),
        *(
            "request.path.x",
            "response.code.x",
            "request.",
            "upstream.address",
            "upstream.port",
            "response.headers.absent",
            "..",
        ),
    ],
)
def test_what_does_not_exist_is_not_found(guest: Guest, name: str) -> None:
    assert asked(guest, name) == ["NOT_FOUND"]


def test_a_property_may_be_empty(guest: Guest) -> None:
    facts = Facts()
    facts.properties[b"mine"] = b""
    assert asked(guest, "mine", facts=facts) == ["OK"]
    stream = guest.stream(f"request_headers property {path('request.query')}")
    stream.request_headers(b"GET / HTTP/1.1\r\nhost: a\r\n", eos=True)
    assert guest.take()[-1] == "property: OK"


def test_the_upstream_is_known_once_it_is_chosen(guest: Guest) -> None:
    facts = Facts()
    facts.upstream_address = ("192.0.2.9", 80)
    assert asked(guest, "upstream.address", "upstream.port", facts=facts) == [
        "OK 192.0.2.9:80",
        f"OK {printed(integer(80))}",
    ]


def test_the_response_is_not_known_in_the_request(guest: Guest) -> None:
    assert asked(guest, "response.code", "response.headers.server", phase="request_headers") == ["NOT_FOUND"] * 2


def test_a_property_follows_what_plugins_changed(guest: Guest) -> None:
    stream = guest.stream("request_headers replace 0 :path /new", f"request_headers property {path('request.path')}")
    stream.request_headers(GET, eos=True)
    assert guest.take()[-1] == "property: OK /new"


def test_a_plugin_context_knows_the_plugin_only(guest: Guest) -> None:
    guest.vm.create_root(
        f"context_create property plugin_root_id\nconfigure property {path('request.path')}\n"
        f"configure property {path('source.address')}\nconfigure set_property a b".encode()
    )
    assert [line for line in guest.take() if "property" in line] == [
        *("property: OK plugin", "property: NOT_FOUND", "property: NOT_FOUND", "set_property: NOT_FOUND"),
    ]


def test_a_property_that_is_set_is_read_again(guest: Guest) -> None:
    facts = Facts()
    name = path("my.own")
    root = guest.root(
        f"request_headers set_property {name} va%00lue",
        f"response_headers property {name}%00",
        f"response_headers set_property {name}%00 %",
        f"log property {name}",
        "log set_property % x",
    )
    stream = open_stream(root, facts)
    stream.request_headers(GET, eos=True)
    stream.response_headers(OK, eos=True)
    stream.finish()
    assert [line for line in guest.take() if "property" in line] == [
        "set_property: OK",
        "property: OK va%00lue",
        "set_property: OK",
        "property: OK",
        "set_property: NOT_FOUND",
    ]
    assert facts.properties == {b"my\0own": b""}


def test_the_effective_context_is_asked(guest: Guest) -> None:
    root = guest.root("tick effective 2", f"tick property {path('source.port')}", "tick set_property a b")
    facts = Facts()
    stream = open_stream(root, facts)
    stream.request_headers(GET, eos=True)
    guest.take()
    root.tick()
    assert guest.take()[2:] == [f"property: OK {printed(integer(50000))}", "set_property: OK"]
    assert facts.properties == {b"a": b"b"}


def test_the_time_is_now(guest: Guest) -> None:
    before = time.time_ns()
    stream = guest.stream("request_headers time")
    stream.request_headers(GET, eos=True)
    told = int(guest.take()[-1].removeprefix("time: OK "))
    assert before <= told <= time.time_ns()


def test_no_call_was_made_and_no_foreign_function_is_known(guest: Guest) -> None:
    stream = guest.stream("request_headers status", "request_headers foreign compres data", "request_headers foreign % %")
    stream.request_headers(GET, eos=True)
    assert guest.take()[2:] == ["status: OK 0", "foreign: NOT_FOUND", "foreign: NOT_FOUND"]


# --- logs


@pytest.mark.parametrize("level", list(LogLevel))
def test_messages_have_their_level_and_context(engine: Engine, level: LogLevel) -> None:
    guest = Guest(engine, console(), VmSettings("plugin", log_level=LogLevel.TRACE))
    stream = guest.stream(f"request_headers log {level:d} some%20text")
    stream.request_headers(GET, eos=True)
    assert (level, 2, "some text") in guest.recorder.logs
    guest.vm.close()


@pytest.mark.parametrize("threshold", list(LogLevel))
def test_messages_below_the_level_are_dropped_and_it_can_be_asked(engine: Engine, threshold: LogLevel) -> None:
    guest = Guest(engine, console(), VmSettings("plugin", log_level=threshold))
    stream = guest.stream("request_headers level", *(f"request_headers log {level:d} message" for level in LogLevel))
    stream.request_headers(GET, eos=True)
    heard = [level for level, _, text in guest.recorder.logs if text == "message"]
    assert heard == [level for level in LogLevel if level >= threshold]
    if threshold <= LogLevel.INFO:
        assert f"level: OK {threshold:d}" in [text for _, _, text in guest.recorder.logs]
    guest.vm.close()


def test_odd_messages(guest: Guest) -> None:
    stream = guest.stream("request_headers log 6 x", "request_headers log 2 %", "request_headers log 2 %ff%0a%e2%82%ac")
    stream.request_headers(GET, eos=True)
    assert guest.take()[2:] == ["log: BAD_ARGUMENT", "", "log: OK", "�\n€", "log: OK"]


def test_more_messages_than_the_ring_holds_come_in_order(guest: Guest) -> None:
    count = 300
    stream = guest.stream(*(f"request_headers log 2 {k}-{'x' * 500}" for k in range(count)))
    stream.request_headers(GET, eos=True)
    heard = [line.partition("-")[0] for line in guest.take() if "-x" in line]
    assert heard == [str(k) for k in range(count)]


def test_what_a_trapping_plugin_said_last_is_heard(guest: Guest) -> None:
    stream = guest.stream("request_headers log 2 last%20words", "request_headers trap")
    with pytest.raises(VmFailed):
        stream.request_headers(GET, eos=True)
    assert guest.take()[-2:] == ["last words", "log: OK"]


# --- WASI


def wasi(guest: Guest, *commands: str) -> list[str]:
    stream = guest.stream(*(f"request_headers {command}" for command in commands))
    stream.request_headers(GET, eos=True)
    return guest.take()[2:]


@pytest.mark.parametrize(
    ("commands", "answers"),
    [
        (["environ"], ["environ: 0 0"]),
        (["args"], ["args: 0 0"]),
        (["clock 0", "clock 1", "clock 2"], ["clock: 0 set", "clock: 0 set", "clock: 58 unset"]),
        (["resolution 0", "resolution 1", "resolution 2"], ["resolution: 0 1", "resolution: 0 1", "resolution: 58 9"]),
        (["random 65536", "random 66560", "random 0"], ["random: 0 noise", "random: 28 noise", "random: 0 noise"]),
        (["prestat 3", "prestat 4"], ["prestat: 8", "prestat: 8"]),
        (["fdstat 1", "fdstat 2", "fdstat 0"], ["fdstat: 0 64", "fdstat: 0 64", "fdstat: 8 9"]),
        (["poll"], ["poll: 0 0"]),
        (["write 1 out"], ["out", "write: 0 3"]),
        (["write 1 o u t%0a"], ["out", "write: 0 4"]),
        (["write 1 a%0a%0a"], ["a\n", "write: 0 3"]),
        (["write 1 a%0ab"], ["a\nb", "write: 0 3"]),
        (["write 1 %0a"], ["", "write: 0 1"]),
        (["write 1 %", "write 1"], ["write: 0 0", "write: 0 0"]),
        (["write 0 x", "write 3 x"], ["write: 8 0", "write: 8 0"]),
    ],
)
def test_wasi(guest: Guest, commands: list[str], answers: list[str]) -> None:
    assert wasi(guest, *commands) == answers


def test_standard_error_is_the_error_log(guest: Guest) -> None:
    stream = guest.stream("request_headers write 2 oh%20no%0a")
    stream.request_headers(GET, eos=True)
    assert [text for level, _, text in guest.recorder.logs if level is LogLevel.ERROR] == ["oh no"]
