"""Transcripts: every function of the ABI has a signature, and what was recorded is shown as people and programs need it."""

from __future__ import annotations

import itertools

import pytest

from shared.proxy_wasm import abi, pairs
from shared.proxy_wasm.trace import signature, transcript
from shared.proxy_wasm.trace.text import as_json, lines, value_text
from shared.proxy_wasm.trace.transcript import BadPointer, Bytes, PairList, Transcript, Value


@pytest.mark.parametrize("name", abi.HOST_FUNCTIONS)
def test_a_host_function_has_the_parameters_of_the_abi(name: str) -> None:
    found = signature.host_signature(name)
    assert found is not None
    parameters = abi.HOST_FUNCTIONS[name].partition(">")[0]
    assert found.width == len(parameters)
    # 64-bit numbers are shown whole, and nothing else is taken for one.
    for part in found.parts:
        assert (parameters[part.at] == "I") <= (part.kind in ("wide", "signed"))
        assert (part.kind == "wide" and not part.is_answer) <= (parameters[part.at] == "I")


@pytest.mark.parametrize("name", abi.CALLBACKS)
def test_a_callback_has_the_parameters_and_the_result_of_the_abi(name: str) -> None:
    found = signature.callback_signature(name)
    assert found is not None
    parameters, _, results = abi.CALLBACKS[name].type.partition(">")
    assert found.width == len(parameters)
    assert bool(found.result) == bool(results)


class Memory:
    """A guest's memory and a clock that counts looks at it."""

    def __init__(self, **places: bytes) -> None:
        self.data = bytearray(4096)
        self.excused = 0.0
        for place, data in places.items():
            at = int(place.removeprefix("at_"))
            self.data[at : at + len(data)] = data
        self._ticks = itertools.count(step=1000)

    def read(self, address: int, size: int) -> bytes | None:
        return bytes(self.data[address : address + size]) if address + size <= len(self.data) else None

    def clock(self) -> int:
        return next(self._ticks)

    def excuse(self, seconds: float) -> None:
        self.excused += seconds

    def transcript(self) -> Transcript:
        made = Transcript()
        made.bind(self.read, self.clock, self.excuse)
        return made


def shown(recorded: Transcript, *, times: bool = False) -> list[str]:
    return list(lines(recorded.take(), times=times))


def test_a_callback_shows_its_calls_and_its_result() -> None:
    memory = Memory(at_100=b"x-key", at_200=b"value", at_300=(200).to_bytes(4, "little") + (5).to_bytes(4, "little"))
    recorded = memory.transcript()
    recorded.enter_callback("proxy_on_request_headers", (2, 4, 1))
    recorded.enter_host_call("proxy_get_header_map_value", (0, 100, 5, 300, 304))
    recorded.leave(0)
    recorded.enter_host_call("proxy_log", (2, 100, 5))
    recorded.leave(0)
    recorded.leave(1)
    recorded.note("upstream", port=80)
    recorded.enter_callback("proxy_on_log", (2,))
    recorded.leave(None)
    entries = recorded.take()
    assert list(lines(entries, times=False)) == [
        "proxy_on_request_headers(context=2, headers=4, end_of_stream=true)",
        '    proxy_get_header_map_value(map=REQUEST_HEADERS, key="x-key") -> OK, value="value"',
        '    proxy_log(level=INFO, message="x-key") -> OK',
        "    -> PAUSE",
        "upstream port=80",
        "proxy_on_log(context=2)",
    ]
    assert as_json(entries[0]) == {
        "kind": "callback",
        "name": "proxy_on_request_headers",
        "inside": 0,
        "arguments": {"context": 2, "headers": 4, "end_of_stream": "true"},
        "answers": {},
        "returned": True,
        "result": "PAUSE",
        "microseconds": entries[0].nanoseconds / 1000,
    }
    assert as_json(entries[1])["answers"] == {"value": "value"}


def test_what_recording_took_is_not_the_plugins_time() -> None:
    """The clock moves by 1 us at each look: between the looks of one call, and of the callback around three."""
    memory = Memory()
    recorded = memory.transcript()
    recorded.enter_callback("proxy_on_tick", (1,))
    for _ in range(3):
        recorded.enter_host_call("proxy_done", ())
        recorded.leave(1)
    recorded.leave(None)
    assert [entry.nanoseconds for entry in recorded.take()] == [7000, 1000, 1000, 1000]
    assert memory.excused == pytest.approx(8e-6)


def test_a_call_that_trapped_did_not_return() -> None:
    recorded = Memory().transcript()
    recorded.enter_callback("proxy_on_tick", (1,))
    recorded.enter_host_call("proc_exit", (3,))
    recorded.enter_callback("proxy_on_done", (1,))
    recorded.leave(1)
    assert shown(recorded, times=True)[:3] == [
        "proxy_on_tick(context=1)",
        "    proc_exit(0=3) -> did not return",
        "    -> did not return",
    ]


def test_an_answer_is_shown_only_when_there_is_one() -> None:
    recorded = Memory(at_300=b"\1\2\3\4").transcript()
    recorded.enter_host_call("proxy_get_shared_data", (0, 0, 300, 304, 308))
    recorded.leave(1)
    recorded.enter_host_call("proxy_register_shared_queue", (0, 0, 300))
    recorded.leave(0)
    recorded.enter_host_call("proxy_get_current_time_nanoseconds", (300,))
    recorded.leave(0)
    assert shown(recorded) == [
        'proxy_get_shared_data(key="") -> NOT_FOUND',
        f'proxy_register_shared_queue(name="") -> OK, queue={0x04030201}',
        "proxy_get_current_time_nanoseconds() -> OK, time=...",
    ]


def test_numbers_are_what_the_abi_says() -> None:
    recorded = Memory().transcript()
    recorded.enter_host_call("proxy_increment_metric", (-1, -1))
    recorded.leave(0)
    recorded.enter_host_call("proxy_record_metric", (4, -1))
    recorded.leave(0)
    recorded.enter_host_call("proxy_get_header_map_size", (99, 5000))
    recorded.leave(2)
    recorded.enter_host_call("fd_write", (1, 2, 3, 4))
    recorded.leave(8)
    assert shown(recorded) == [
        f"proxy_increment_metric(metric={0xFFFFFFFF}, delta=-1) -> OK",
        f"proxy_record_metric(metric=4, value={0xFFFFFFFFFFFFFFFF}) -> OK",
        "proxy_get_header_map_size(map=99) -> BAD_ARGUMENT",
        "fd_write(0=1, 1=2, 2=3, 3=4) -> 8",
    ]


def test_memory_that_the_guest_does_not_have_is_shown_as_such() -> None:
    recorded = Memory().transcript()
    recorded.enter_host_call("proxy_log", (2, -16, 32))
    recorded.leave(6)
    recorded.enter_host_call("proxy_log", (2, 0, 1 << 30))
    recorded.leave(6)
    assert [entry.arguments[1][1] for entry in recorded.take()] == [BadPointer(0xFFFFFFF0, 32), BadPointer(0, 1 << 30)]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    many = pairs.encode([(b"n", b"v")] * 200)
    recorded = Memory(at_0=b"a" * 4000).transcript()
    recorded.enter_host_call("proxy_log", (2, 0, 4000))
    recorded.leave(0)
    kept = recorded.take()[0].arguments[1][1]
    assert isinstance(kept, Bytes)
    assert (len(kept.data), kept.size) == (transcript.MAX_VALUE, 4000)
    recorded = Memory(at_0=many).transcript()
    recorded.enter_host_call("proxy_set_header_map_pairs", (0, 0, len(many)))
    recorded.leave(0)
    fields = recorded.take()[0].arguments[1][1]
    assert isinstance(fields, PairList)
    assert (len(fields.pairs), fields.count) == (transcript.MAX_PAIRS, 200)
    monkeypatch.setattr(transcript, "MAX_ENTRIES", 2)
    for _ in range(5):
        recorded.enter_host_call("proxy_done", ())
        recorded.leave(0)
    assert (len(recorded.take()), recorded.dropped) == (2, 3)


def test_nothing_is_kept_while_it_is_paused() -> None:
    recorded = Memory().transcript()
    with recorded.paused():
        recorded.enter_callback("proxy_on_tick", (1,))
        recorded.enter_host_call("proxy_log", (2, 0, 4))
        recorded.leave(0)
        recorded.leave(None)
    assert recorded.take() == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Bytes(b'a "b" \\ \n\t\0\x01', 12), r'"a \"b\" \\ \n\t\0\x01"'),
        (Bytes("é 中".encode(), 6), '"é 中"'),
        (Bytes("\u200b".encode(), 3), r'"\u200b"'),
        (Bytes(b"\xff\x00a", 3), r'"\xff\x00a"'),
        (Bytes(b"x" * 1024, 5000), '"' + "x" * 80 + '"... (5000 bytes)'),
        (PairList(((b":path", b"/"), (b"a", b'"')), 2), r'{":path": "/", "a": "\""}'),
        (PairList(((b"a", b"1"),) * 20, 20), "{" + '"a": "1", ' * 12 + "... (20 pairs)}"),
        (BadPointer(255, 4), "(no memory at 0xff, 4 bytes)"),
        (7, "7"),
    ],
)
def test_a_value_is_readable_in_one_line(value: Value, text: str) -> None:
    assert value_text(value) == text


def test_malformed_pairs_are_shown_as_they_are() -> None:
    recorded = Memory(at_0=b"\1\0\0\0nonsense").transcript()
    recorded.enter_host_call("proxy_set_header_map_pairs", (0, 0, 12))
    recorded.leave(2)
    assert shown(recorded) == [r'proxy_set_header_map_pairs(map=REQUEST_HEADERS, pairs="\x01\0\0\0nonsense") -> BAD_ARGUMENT']
