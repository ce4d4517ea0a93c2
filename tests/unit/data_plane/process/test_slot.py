"""A process's place, by the clock of a test: pauses that grow, silence that is noticed, memory that two processes see."""

from __future__ import annotations

import os

from data_plane.observe.pulse import Pulses, State
from data_plane.process.slot import FORGIVEN_AFTER_SECONDS, LONGEST_PAUSE_SECONDS, OBSERVER, Slot


def test_pauses_grow_until_a_process_lives_long_enough() -> None:
    slot = Slot(1, Pulses().take())
    now, pauses = 100.0, []
    for _ in range(10):
        slot.starting(now)
        now += 0.01
        pauses.append(slot.ended(now))
        now = slot.start_at
    assert pauses[:5] == [0, 0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    slot.starting(now)
    assert slot.ended(now + FORGIVEN_AFTER_SECONDS) == 0
    slot.starting(now)
    assert slot.ended(now) == 0.1


def test_silence_is_counted_from_the_last_beat() -> None:
    slot = Slot(1, Pulses().take())
    slot.starting(100)
    assert slot.silent_for(101) == 1
    slot.pulse.beat()
    assert slot.silent_for(105) == 0
    assert slot.silent_for(107) == 2
    # The next process in the slot is not blamed for the one before.
    slot.ended(107)
    slot.starting(120)
    assert slot.silent_for(121) == 1


def test_who_it_is() -> None:
    pulses = Pulses()
    assert (Slot(2, pulses.take()).role, Slot(2, pulses.take()).named()) == ("worker", {"worker": 2})
    assert (Slot(OBSERVER, pulses.take()).role, Slot(OBSERVER, pulses.take()).named()) == ("observer", {})


def test_a_child_is_heard_by_its_parent() -> None:
    pulses = Pulses()
    first, second = pulses.take(), pulses.take()
    pid = os.fork()
    if not pid:
        second.beat()
        second.beat()
        second.state = State.READY
        os._exit(0)
    os.waitpid(pid, 0)
    assert (first.beats, first.state) == (0, State.STARTING)
    assert (second.beats, second.state) == (2, State.READY)
    before = pulses.stopping
    pulses.stop()
    assert (before, pulses.stopping, first.state) == (False, True, State.STARTING)


def test_a_cell_is_used_again_as_if_it_were_new() -> None:
    pulses = Pulses()
    pulse = pulses.take()
    pulse.state = State.READY
    pulses.release(pulse)
    assert pulses.take().state == State.STARTING
