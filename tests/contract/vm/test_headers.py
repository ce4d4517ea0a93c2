"""Header maps as a plugin sees and changes them, and the head that leaves."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.abi import Effect, MapType
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.outcome import Outcome
from tests.support.guest import Guest, console, open_stream

GET = b"GET /p?q=1 HTTP/1.1\r\nHost: example.com\r\nX-One: 1\r\nx-two: a\r\nX-Two: b\r\nempty:\r\n"
FRAMING = b"content-length: 5\r\n"
OK = b"HTTP/1.1 200 Fine\r\nServer: up\r\nx-one: 1\r\n"


def request(guest: Guest, *commands: str, head: bytes = GET) -> tuple[list[str], bytes | Outcome | None]:
    """Results of the commands, and what goes on."""
    stream = guest.stream(*(f"request_headers {command}" for command in commands))
    answer = stream.request_headers(head, eos=True)
    return guest.take()[2:], answer


def response(guest: Guest, *commands: str, head: bytes = OK) -> tuple[list[str], bytes | Outcome | None]:
    stream = guest.stream(*(f"response_headers {command}" for command in commands))
    stream.request_headers(GET, eos=True)
    answer = stream.response_headers(head, eos=True)
    return guest.take()[3:], answer


def changed(answer: bytes | Outcome | None) -> bytes:
    """The head that goes on, whether or not the plugin logged besides."""
    if isinstance(answer, bytes):
        return answer
    assert isinstance(answer, Outcome)
    assert answer.data is not None, "unchanged"
    return answer.data


def lines(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n")
    return head[:-2].split(b"\r\n")


# --- reading


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        (":method", "OK GET"),
        (":path", "OK /p?q=1"),
        (":authority", "OK example.com"),
        (":scheme", "OK http"),
        ("host", "OK example.com"),
        ("HoSt", "OK example.com"),
        ("x-one", "OK 1"),
        ("X-ONE", "OK 1"),
        ("x-two", "OK a"),
        ("empty", "OK"),
        ("absent", "NOT_FOUND"),
        ("x-on", "NOT_FOUND"),
        ("x-one%", "OK 1"),
        ("%", "NOT_FOUND"),
        ("x-one%00", "NOT_FOUND"),
        (":status", "NOT_FOUND"),
        ("content-length", "OK 5"),
    ],
)
def test_reading_a_request_header(guest: Guest, key: str, answer: str) -> None:
    results, _ = request(guest, f"get 0 {key}", head=GET + FRAMING)
    assert results == [f"get: {answer}"]


@pytest.mark.parametrize(
    ("key", "answer"),
    [(":status", "OK 200"), ("SERVER", "OK up"), ("host", "NOT_FOUND"), (":path", "NOT_FOUND")],
)
def test_reading_a_response_header(guest: Guest, key: str, answer: str) -> None:
    results, _ = response(guest, f"get 2 {key}")
    assert results == [f"get: {answer}"]


def test_a_response_may_have_a_field_named_host(guest: Guest) -> None:
    results, answer = response(guest, "get 2 host", "remove 2 host", head=OK + b"host: h\r\n")
    assert results == ["get: OK h", "remove: OK"]
    assert lines(changed(answer))[1:] == [b"server: up", b"x-one: 1"]


def test_all_headers_in_order_pseudo_headers_first(guest: Guest) -> None:
    results, _ = request(guest, "pairs 0", "size 0", head=GET + FRAMING)
    listed = ":authority=example.com|:path=/p?q=1|:method=GET|:scheme=http|x-one=1|x-two=a|x-two=b|empty=|content-length=5"
    size = 4 + sum(8 + len(field.replace("=", "", 1)) + 2 for field in listed.split("|"))
    assert results == [f"pairs: OK {listed}", f"size: OK {size}"]


def test_response_headers_in_order(guest: Guest) -> None:
    results, _ = response(guest, "pairs 2")
    assert results == ["pairs: OK :status=200|server=up|x-one=1"]


def test_values_lose_the_space_around_them_and_keep_the_rest(guest: Guest) -> None:
    head = b"GET / HTTP/1.1\r\na: \t x \ty \t\r\nb:no space\r\nc: \xe9\xff\r\n"
    results, _ = request(guest, "get 0 a", "get 0 b", "get 0 c", head=head)
    assert results == ["get: OK x %09y", "get: OK no space", "get: OK %e9%ff"]


@pytest.mark.parametrize("map_type", [1, 2, 3, 4, 5, 6, 7])
def test_maps_that_are_not_there(guest: Guest, map_type: int) -> None:
    """Reading finds nothing, writing is refused, and no SDK panics over either."""
    results, answer = request(
        guest,
        f"get {map_type} a",
        f"pairs {map_type}",
        f"size {map_type}",
        f"add {map_type} a b",
        f"replace {map_type} a b",
        f"remove {map_type} a",
        f"set {map_type} a=b",
    )
    assert results == [
        *("get: NOT_FOUND", "pairs: OK null", "size: OK 0"),
        *(f"{command}: BAD_ARGUMENT" for command in ("add", "replace", "remove", "set")),
    ]
    assert isinstance(answer, Outcome)
    assert answer.data is None


def test_maps_that_do_not_exist_are_bad_arguments(guest: Guest) -> None:
    commands = ["get 8 a", "pairs 8", "size 8", "add 8 a b", "replace 8 a b", "remove 8 a", "set 8 a=b", "get 4294967295 a"]
    results, _ = request(guest, *commands)
    assert results == [f"{command.partition(' ')[0]}: BAD_ARGUMENT" for command in commands]


# --- writing


def test_an_untouched_head_is_not_emitted_anew(guest: Guest) -> None:
    _, answer = request(guest, "get 0 host", "remove 0 absent")
    assert isinstance(answer, Outcome)
    assert answer.data is None


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("add 0 x-new v", [b"x-one: 1", b"x-two: a", b"x-two: b", b"empty: ", b"x-new: v"]),
        ("add 0 X-One 2", [b"x-one: 1", b"x-two: a", b"x-two: b", b"empty: ", b"x-one: 2"]),
        ("replace 0 X-Two c", [b"x-one: 1", b"x-two: c", b"empty: "]),
        ("replace 0 x-new v", [b"x-one: 1", b"x-two: a", b"x-two: b", b"empty: ", b"x-new: v"]),
        ("replace 0 x-one %", [b"x-one: ", b"x-two: a", b"x-two: b", b"empty: "]),
        ("remove 0 X-TWO", [b"x-one: 1", b"empty: "]),
        ("set 0 :method=GET :path=/p?q=1 :authority=example.com B=2 a=1 B=3", [b"b: 2", b"a: 1", b"b: 3"]),
        ("set 0 :method=GET :path=/p?q=1 host=example.com", []),
        ("add 0 x-new %e9%09x", [b"x-one: 1", b"x-two: a", b"x-two: b", b"empty: ", b"x-new: \xe9\tx"]),
    ],
)
def test_changing_request_headers(guest: Guest, command: str, fields: list[bytes]) -> None:
    results, answer = request(guest, command)
    assert results == [f"{command.partition(' ')[0]}: OK"]
    assert lines(changed(answer)) == [b"GET /p?q=1 HTTP/1.1", b"host: example.com", *fields]


@pytest.mark.parametrize(
    ("command", "start"),
    [
        ("replace 0 :path /other?x", [b"GET /other?x HTTP/1.1", b"host: example.com"]),
        ("add 0 :path /other", [b"GET /other HTTP/1.1", b"host: example.com"]),
        ("replace 0 :method PURGE", [b"PURGE /p?q=1 HTTP/1.1", b"host: example.com"]),
        ("replace 0 :authority other:80", [b"GET /p?q=1 HTTP/1.1", b"host: other:80"]),
        ("replace 0 Host other", [b"GET /p?q=1 HTTP/1.1", b"host: other"]),
        ("add 0 host other", [b"GET /p?q=1 HTTP/1.1", b"host: other"]),
        ("replace 0 :scheme https", [b"GET /p?q=1 HTTP/1.1", b"host: example.com"]),
    ],
)
def test_changing_pseudo_headers(guest: Guest, command: str, start: list[bytes]) -> None:
    _, answer = request(guest, command)
    assert lines(changed(answer))[:3] == [*start, b"x-one: 1"]


@pytest.mark.parametrize(
    ("status", "line"),
    [("200", b"HTTP/1.1 200 OK"), ("404", b"HTTP/1.1 404 Not Found"), ("599", b"HTTP/1.1 599 ")],
)
def test_changing_the_status_changes_its_reason(guest: Guest, status: str, line: bytes) -> None:
    _, answer = response(guest, f"replace 2 :status {status}")
    assert lines(changed(answer)) == [line, b"server: up", b"x-one: 1"]


@pytest.mark.parametrize("reason", [b" ", b" Fine", b" two words", b" " + b"long" * 5000])
def test_a_kept_status_keeps_its_reason(guest: Guest, reason: bytes) -> None:
    _, answer = response(guest, "add 2 a b", head=b"HTTP/1.1 200" + reason + b"\r\nx: y\r\n")
    assert changed(answer) == b"HTTP/1.1 200" + reason + b"\r\nx: y\r\na: b\r\n"


def test_a_missing_reason_is_made_up(guest: Guest) -> None:
    _, answer = response(guest, "add 2 a b", head=b"HTTP/1.1 404\r\nx: y\r\n")
    assert changed(answer) == b"HTTP/1.1 404 Not Found\r\nx: y\r\na: b\r\n"


@pytest.mark.parametrize(
    ("map_type", "key", "value"),
    [
        (0, "a", "x%0d%0ay:%20z"),
        (0, "a", "x%0a"),
        (0, "a", "%00"),
        (0, "a", "x%7f"),
        (0, "%", "x"),
        (0, "a%20b", "x"),
        (0, "a%3a", "x"),
        (0, "a%0d%0ab", "x"),
        (0, "a%00", "x"),
        (0, "%e9", "x"),
        (0, ":path", "/a%20b"),
        (0, ":path", "/%0d%0aX:%20y"),
        (0, ":path", "%"),
        (0, ":method", "G%20T"),
        (0, ":method", "%"),
        (0, ":authority", "a%20b"),
        (0, ":authority", "%"),
        (0, "host", "a%0d%0ab"),
        (0, ":scheme", "ht%20tp"),
        (0, ":status", "200"),
        (0, ":other", "x"),
        (0, ":", "x"),
        (2, ":status", "%"),
        (2, ":status", "99"),
        (2, ":status", "103"),
        (2, ":status", "600"),
        (2, ":status", "2000"),
        (2, ":status", "20x"),
        (2, ":path", "/"),
        (2, "a", "x%0d%0aset-cookie:%20y"),
    ],
)
def test_what_cannot_stand_on_a_wire_is_refused(guest: Guest, map_type: int, key: str, value: str) -> None:
    commands = [f"{command} {map_type} {key} {value}" for command in ("add", "replace")]
    commands.append(f"set {map_type} ok=yes {key}={value}")
    results, answer = (response if map_type else request)(guest, *commands)
    assert results == ["add: BAD_ARGUMENT", "replace: BAD_ARGUMENT", "set: BAD_ARGUMENT"]
    assert isinstance(answer, Outcome)
    assert answer.data is None


FRAMING_NAMES = (
    *("content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection"),
    *("te", "trailer", "upgrade"),
)


@pytest.mark.parametrize("name", FRAMING_NAMES)
def test_framing_is_read_but_never_written(guest: Guest, name: str) -> None:
    results, answer = request(guest, f"add 0 {name} 7", f"get 0 {name}", "add 0 a b")
    assert results == ["add: OK", "get: OK 7", "add: OK"]
    assert name.encode() not in changed(answer)
    _, answer = response(guest, f"replace 2 {name.upper()} 7", "add 2 a b", head=OK + FRAMING)
    assert lines(changed(answer)) == [b"HTTP/1.1 200 Fine", b"server: up", b"x-one: 1", b"a: b"]


@pytest.mark.parametrize("name", [":path", ":method", ":authority", "host"])
def test_a_request_cannot_do_without_its_pseudo_headers(guest: Guest, name: str) -> None:
    results, answer = request(guest, f"remove 0 {name}")
    assert results == ["remove: OK"]
    assert isinstance(answer, Outcome)
    assert answer.effects == Effect.BAD_HEAD


def test_a_request_can_do_without_a_scheme(guest: Guest) -> None:
    _, answer = request(guest, "remove 0 :scheme", "remove 0 x-two", "remove 0 x-one", "remove 0 empty")
    assert changed(answer) == b"GET /p?q=1 HTTP/1.1\r\nhost: example.com\r\n"


def test_a_response_cannot_do_without_its_status(guest: Guest) -> None:
    _, answer = response(guest, "remove 2 :status")
    assert isinstance(answer, Outcome)
    assert answer.effects == Effect.BAD_HEAD


def test_a_removed_pseudo_header_may_be_put_back(guest: Guest) -> None:
    _, answer = request(guest, "remove 0 :path", "add 0 :path /back")
    assert lines(changed(answer))[0] == b"GET /back HTTP/1.1"


# --- serialized maps


def test_an_empty_map_is_written_in_four_ways(guest: Guest) -> None:
    for raw in ("%", "%00", "%00%00%00%00"):
        stream = guest.stream(f"response_headers set_raw 2 {raw}", "response_headers pairs 2", "response_headers size 2")
        stream.request_headers(GET, eos=True)
        guest.take()
        stream.response_headers(OK, eos=True)
        assert guest.take()[1:] == ["set_raw: OK", "pairs: OK ", "size: OK 4"]


@pytest.mark.parametrize(
    "raw",
    [
        "%01",
        "%00%00",
        "%00%00%00",
        "%01%00%00%00",
        "%ff%ff%ff%ff",
        "%01%04%00%00%00%00%00%00",
        "%00%00%00%00x",
        "%01%00%00%00%01%00%00%00%01%00%00%00a%00b",
        "%01%00%00%00%01%00%00%00%01%00%00%00a%00bx",
        "%01%00%00%00%01%00%00%00%01%00%00%00axb%00",
        "%01%00%00%00%01%00%00%00%01%00%00%00a%00b%00x",
        "%01%00%00%00%ff%ff%ff%ff%01%00%00%00a%00b%00",
        "%01%00%00%00%01%00%00%00%ff%ff%ff%ffa%00b%00",
        "%01%00%00%00%01%00%00%00%fe%ff%ff%ffa%00b%00",
        "%00%00%00%01a%00b%00",
    ],
)
def test_malformed_pairs_change_nothing(guest: Guest, raw: str) -> None:
    results, answer = request(guest, f"set_raw 0 {raw}", "get 0 x-one")
    assert results == ["set_raw: BAD_ARGUMENT", "get: OK 1"]
    assert isinstance(answer, Outcome)
    assert answer.data is None


def test_a_thousand_headers(guest: Guest) -> None:
    head = GET + b"".join(b"x-%d: %d\r\n" % (k, k) for k in range(1000))
    results, answer = request(guest, "get 0 x-999", "replace 0 x-500 new", head=head)
    assert results == ["get: OK 999", "replace: OK"]
    assert changed(answer).endswith(b"x-998: 998\r\nx-999: 999\r\n")
    assert b"\r\nx-500: new\r\n" in changed(answer)


def test_a_stream_holds_a_mebibyte_of_heads(guest: Guest) -> None:
    stream = guest.stream()
    answer = stream.request_headers(GET + b"x: " + b"y" * (1 << 20) + b"\r\n", eos=True)
    assert isinstance(answer, Outcome)
    assert answer.no_room
    stream.finish()
    results, _ = request(guest, *(f"replace 0 x {'y' * 3000}" for _ in range(3)))
    assert results == ["replace: OK"] * 3


# --- when a map may be changed


def test_headers_are_closed_when_they_have_gone_on(guest: Guest) -> None:
    stream = guest.stream(
        "response_headers get 0 x-one",
        "response_headers add 0 a b",
        "response_headers set 0 a=b",
        "log get 0 :path",
        "log get 2 :status",
        "log add 2 a b",
        "log remove 0 x-one",
    )
    stream.request_headers(GET, eos=True)
    stream.response_headers(OK, eos=True)
    guest.take()
    stream.finish()
    assert guest.take() == [
        *("done 2", "log 2", "get: OK /p?q=1", "get: OK 200", "add: BAD_ARGUMENT", "remove: BAD_ARGUMENT", "delete 2"),
    ]


def test_a_paused_head_is_changed_later_and_emitted_once(guest: Guest) -> None:
    root = guest.root("request_headers add 0 a 1", "request_headers return 1", "tick effective 2", "tick add 0 b 2")
    stream = open_stream(root)
    outcome = stream.request_headers(GET, eos=True)
    assert isinstance(outcome, Outcome)
    assert (outcome.paused, outcome.data) == (True, None)
    root.tick()
    head = stream.resume_head(MapType.REQUEST_HEADERS)
    assert isinstance(head, bytes)
    assert lines(head)[-2:] == [b"a: 1", b"b: 2"]
    guest.take()
    root.tick()
    assert guest.take()[-1] == "add: BAD_ARGUMENT"


def test_a_paused_head_that_nobody_changed_stays_as_it_was(guest: Guest) -> None:
    stream = guest.stream("response_headers return 1")
    stream.request_headers(GET, eos=True)
    stream.response_headers(OK, eos=True)
    assert stream.resume_head(MapType.RESPONSE_HEADERS) is None


def test_a_second_response_takes_the_place_of_the_first(guest: Guest) -> None:
    """A local reply after a pause in the response."""
    stream = guest.stream("response_headers pairs 2")
    stream.request_headers(GET, eos=True)
    stream.response_headers(OK, eos=False)
    stream.response_headers(b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n", eos=True)
    assert guest.take()[-1] == "pairs: OK :status=503|a=b"


@pytest.mark.parametrize("action", [1, 2, 3, 4, 99])
def test_any_answer_but_continue_pauses_a_head(engine: Engine, action: int) -> None:
    guest = Guest(engine, console())
    outcome = guest.stream(f"request_headers return {action}").request_headers(GET, eos=True)
    assert isinstance(outcome, Outcome)
    assert outcome.paused
    guest.vm.close()
