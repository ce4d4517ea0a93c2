"""VMContext, PluginContexts and HttpContexts: their ids, their order of callbacks, and one acting on another."""

from __future__ import annotations

import gc
import weakref

import pytest

from shared.proxy_wasm.abi import Direction, Effect, MapType
from shared.proxy_wasm.contexts import LAST_ID
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import PluginContext
from tests.support.guest import Guest, console, limits, open_stream

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def exchange(root: PluginContext) -> tuple[int, int]:
    stream = open_stream(root)
    stream.request_headers(GET, eos=True)
    stream.finish()
    return root.id, stream.id


def test_two_routes_in_turn_show_the_ids_of_apisix(guest: Guest) -> None:
    first, second = guest.vm.create_root(b""), None
    seen = [exchange(first)]
    second = guest.vm.create_root(b"")
    seen += [exchange(second), exchange(first), exchange(second)]
    assert seen == [(1, 2), (3, 4), (1, 2), (3, 4)]


def test_the_guest_is_told_the_ids(guest: Guest) -> None:
    stream = guest.stream()
    stream.request_headers(GET, eos=False)
    stream.body(Direction.REQUEST, b"abc", eos=True)
    stream.response_headers(OK, eos=False)
    stream.body(Direction.RESPONSE, b"abcd", eos=True)
    stream.finish()
    assert stream.root.delete()
    assert guest.take() == [
        *("context_create 2 1", "request_headers 2 4 0", "request_body 2 3 1", "response_headers 2 1 0", "response_body 2 4 1"),
        *("done 2", "log 2", "delete 2", "done 1", "delete 1"),
    ]


def test_a_question_when_the_stream_begins_leaves_its_head_alone(guest: Guest) -> None:
    """Answers and heads come the same way into the plugin's memory."""
    stream = guest.stream("context_create property source%00address", "request_headers add 0 a b")
    answer = stream.request_headers(GET, eos=True)
    assert not isinstance(answer, bytes | None)
    assert answer.data == GET + b"a: b\r\n"
    assert guest.take()[:3] == ["context_create 2 1", "property: OK 192.0.2.7:50000", "request_headers 2 4 1"]


def test_a_stream_without_room_for_its_head_is_not_heard_of(guest: Guest) -> None:
    stream = guest.stream()
    outcome = stream.request_headers(GET + b"x: " + b"y" * (1 << 20) + b"\r\n", eos=True)
    assert isinstance(outcome, Outcome)
    assert outcome.no_room
    stream.finish()
    assert guest.take() == []


def test_a_live_id_is_not_given_again_and_the_smallest_free_one_is(guest: Guest) -> None:
    root = guest.root()
    streams = [open_stream(root) for _ in range(5)]
    assert [stream.id for stream in streams] == [2, 3, 4, 5, 6]
    for stream in (streams[3], streams[0], streams[2]):
        stream.finish()
    assert [open_stream(root).id for _ in range(4)] == [2, 4, 5, 7]


def test_a_deleted_context_gives_its_ids_back_to_the_vm(guest: Guest) -> None:
    first = guest.root()
    exchange(first)
    second = guest.root()
    assert first.delete()
    assert exchange(second) == (3, 1)
    assert guest.root().id == 2


def test_a_context_knows_of_streams_that_have_not_reached_it(guest: Guest) -> None:
    """Such a stream waits in an earlier plugin: deleting its PluginContext now would make an orphan."""
    root = guest.root()
    stream = open_stream(root)
    assert (root.streams, stream.opened) == (1, False)
    stream.finish()
    assert root.streams == 0
    assert guest.take() == []


def test_a_stream_whose_on_done_answers_false_ends_all_the_same(guest: Guest) -> None:
    stream = guest.stream("done return 0")
    stream.request_headers(GET, eos=True)
    guest.take()
    stream.finish()
    assert guest.take() == ["done 2", "log 2", "delete 2"]


def test_a_context_that_is_not_done_goes_when_it_says_so(guest: Guest) -> None:
    root = guest.root("done return 0", "tick#1 log 2 waiting", "tick#2 proxy_done", "tick#3 proxy_done")
    assert not root.delete()
    root.tick()
    assert guest.recorder.ended == []
    root.tick()
    root.tick()
    assert guest.recorder.ended == [1]
    assert root.delete()
    assert guest.take() == [
        *("done 1", "tick 1", "waiting", "log: OK", "tick 1", "proxy_done: OK", "tick 1", "proxy_done: NOT_FOUND", "delete 1"),
    ]
    assert not guest.vm.roots


def test_proxy_done_means_the_effective_context(guest: Guest) -> None:
    leaving = guest.root("done return 0")
    assert not leaving.delete()
    staying = guest.root("tick effective 1", "tick proxy_done")
    staying.tick()
    assert guest.recorder.ended == [leaving.id]


def test_proxy_done_out_of_season_is_not_found(guest: Guest) -> None:
    stream = guest.stream("request_headers proxy_done", "done proxy_done")
    stream.request_headers(GET, eos=True)
    stream.finish()
    assert not [line for line in guest.take() if line.startswith("proxy_done") and line != "proxy_done: NOT_FOUND"]


def test_ticks_are_asked_for_and_end_with_their_context(guest: Guest) -> None:
    root = guest.root("configure tick_period 250", "tick tick_period 0", "request_headers tick_period 4000000000")
    root.tick()
    open_stream(root).request_headers(GET, eos=True)
    root.delete()
    assert guest.recorder.periods == [(1, 250), (1, 0), (1, 4_000_000_000), (1, 0)]


def test_a_tick_acts_on_a_paused_stream(guest: Guest) -> None:
    root = guest.root(
        "request_headers return 1",
        "tick add 0 x no",
        "tick effective 2",
        "tick add 0 x-user me",
        "tick get 0 :path",
        "tick continue 0",
    )
    stream = open_stream(root)
    outcome = stream.request_headers(GET, eos=True)
    assert outcome is not None
    assert not isinstance(outcome, bytes)
    assert outcome.paused
    guest.take()
    root.tick()
    assert guest.take() == ["tick 1", "add: BAD_ARGUMENT", "effective: OK", "add: OK", "get: OK /", "continue: OK"]
    ((told, effects),) = guest.recorder.told
    assert (told, effects.effects, effects.reply) == (2, Effect.CONTINUE_REQUEST, None)
    assert stream.resume_head(MapType.REQUEST_HEADERS) == GET + b"x-user: me\r\n"


def test_an_effective_context_lasts_for_one_call(guest: Guest) -> None:
    root = guest.root("tick#1 effective 2", "tick#2 get 0 :path", "tick#2 effective 9", "tick#2 effective 0")
    open_stream(root).request_headers(GET, eos=True)
    root.tick()
    root.tick()
    assert guest.take()[-4:] == ["tick 1", "get: NOT_FOUND", "effective: BAD_ARGUMENT", "effective: BAD_ARGUMENT"]


def test_a_stream_that_ended_is_no_effective_context(guest: Guest) -> None:
    root = guest.root("tick effective 2")
    exchange(root)
    root.tick()
    assert guest.take()[-1] == "effective: BAD_ARGUMENT"


def test_every_stream_that_a_callback_acted_on_is_told(guest: Guest) -> None:
    script = [line for k in (2, 3, 4) for line in (f"tick effective {k}", "tick continue 1", f"tick reply 20{k} d b % a=b")]
    root = guest.root("request_headers return 1", *script)
    for _ in range(3):
        open_stream(root).request_headers(GET, eos=True)
    root.tick()
    told = dict(guest.recorder.told)
    assert sorted(told) == [2, 3, 4]
    for number, outcome in told.items():
        assert outcome.effects == Effect.CONTINUE_RESPONSE | Effect.LOCAL_REPLY
        assert outcome.reply is not None
        assert outcome.reply.status == 200 + number


def test_the_last_words_of_a_context_act_as_well(guest: Guest) -> None:
    """on_delete of a PluginContext and of a stream act on another stream."""
    first = guest.root("delete effective 4", "delete continue 0")
    stream = open_stream(first)
    stream.request_headers(GET, eos=True)
    other = open_stream(guest.root("request_headers return 1"))
    other.request_headers(GET, eos=True)
    stream.finish()
    first.delete()
    assert [(number, outcome.effects) for number, outcome in guest.recorder.told] == [(4, Effect.CONTINUE_REQUEST)] * 2


def test_a_vm_has_as_many_contexts_as_there_are_ids(guest: Guest) -> None:
    root = guest.root()
    streams = [open_stream(root) for _ in range(LAST_ID - 1)]
    with pytest.raises(OverflowError, match="65535 contexts"):
        open_stream(root)
    with pytest.raises(OverflowError):
        guest.vm.create_root(b"")
    streams[-1].request_headers(GET, eos=True)
    assert guest.take()[-1] == "request_headers 65535 4 1"
    streams[0].finish()
    assert open_stream(root).id == 2


def test_the_memory_of_a_closed_vm_is_not_read(guest: Guest) -> None:
    """A mistake of the host's that would otherwise end the process."""
    guest.vm.close()
    with pytest.raises(ValueError, match="released memoryview"):
        guest.vm.output(16)


def test_a_closed_vm_leaves_nothing_behind(engine: Engine) -> None:
    guest = Guest(engine, console())
    guest.stream().request_headers(GET, eos=True)
    kept = weakref.ref(guest.vm)
    guest.vm.close()
    del guest
    gc.collect()
    assert kept() is None


def test_nothing_grows_over_ten_thousand_streams(engine: Engine) -> None:
    """The least memory that a VM can have is 2 MiB, for the plugin and for the core each."""
    guest = Guest(engine, console("NO_BODIES"), limits(memory_bytes=1))
    root = guest.root("request_headers add 0 a b")
    for _ in range(10_000):
        assert exchange(root) == (1, 2)
        guest.recorder.logs.clear()
    assert (guest.vm.streams, root.streams) == ({}, 0)
    guest.vm.close()
