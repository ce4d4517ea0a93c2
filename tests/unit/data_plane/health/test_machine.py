"""The state machine by transcripts: what is reported, and what it is after each report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.balance.health import TCP_FAILURE, TIMEOUT
from data_plane.health.checks import CONNECTED, NO_HTTP, Rules, compile_checks
from data_plane.health.machine import Counter, Health, Target
from data_plane.health.rows import Place, decode, encode, key_of, place_of
from shared.schema.checks import ChecksSpec

LIMITS = {Counter.SUCCESS: 2, Counter.TCP_FAILURE: 2, Counter.HTTP_FAILURE: 3, Counter.TIMEOUT_FAILURE: 3}
LETTERS = dict(zip("stho", (Counter.SUCCESS, Counter.TCP_FAILURE, Counter.HTTP_FAILURE, Counter.TIMEOUT_FAILURE), strict=True))

# Reports, and after each the state and the counts of successes, TCP, HTTP and timeout failures.
TRANSCRIPTS = {
    "healthy counts no success": "s H0000",
    "one failure leans": "t MH0100",
    "two of a kind decide": "t MH0100 t U0200",
    "each kind for itself": "t MH0100 h MH0110 o MH0111 h MH0121 t U0221",
    "a success forgets the failures": "t MH0100 s MH1000 t MH0100 t U0200",
    "successes bring it back": "t MH0100 s MH1000 s H2000 s H2000",
    "unhealthy counts no failure": "t MH0100 t U0200 t U0200 h U0200",
    "up again": "t MH0100 t U0200 s MU1000 s H2000 t MH0100",
    "a failure on the way up forgets the successes": "t MH0100 t U0200 s MU1000 h MU0010 s MU1000 s H2000",
    "down again from the way up": "t MH0100 t U0200 s MU1000 t MU0100 t U0200",
}
SHORT = {Health.HEALTHY: "H", Health.MOSTLY_HEALTHY: "MH", Health.MOSTLY_UNHEALTHY: "MU", Health.UNHEALTHY: "U"}


@pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS.keys())
def test_transcript(transcript: str) -> None:
    words = transcript.split()
    target = Target()
    for letter, expected in zip(words[::2], words[1::2], strict=True):
        counter = LETTERS[letter]
        target = target.after(counter, LIMITS[counter])
        assert SHORT[target.health] + "".join(map(str, target.counts)) == expected


@given(st.lists(st.sampled_from(list(Counter)), max_size=40), st.integers(1, 4))
def test_what_always_holds(reports: list[Counter], limit: int) -> None:
    target = Target()
    for counter in reports:
        before, target = target, target.after(counter, limit)
        assert (target.counts[Counter.SUCCESS] == 0) or not any(target.counts[1:])
        assert max(target.counts) <= limit
        if before.health.takes_traffic and not target.health.takes_traffic:
            assert target.health is Health.UNHEALTHY
            assert target.counts[counter] == limit
        if not before.health.takes_traffic and target.health.takes_traffic:
            assert (counter, target.health) == (Counter.SUCCESS, Health.HEALTHY)
        assert decode(encode(target, "http")) == (target, "http")


def test_the_defaults_are_those_of_apisix() -> None:
    checks = compile_checks(ChecksSpec.model_validate({"active": {}, "passive": {}}))
    probing, active, passive = checks.probing, checks.active, checks.passive
    assert (probing.type, probing.timeout, probing.concurrency, probing.method, probing.path) == ("http", 1.0, 10, "GET", "/")
    assert (probing.healthy_interval, probing.unhealthy_interval, probing.verify) == (1.0, 1.0, True)
    assert active == Rules(frozenset({200, 302}), frozenset({429, 404, *range(500, 506)}), 2, 2, 5, 3)
    assert passive == Rules(frozenset({*range(200, 209), 226, *range(300, 309)}), frozenset({429, 500, 503}), 5, 2, 5, 7)


@pytest.mark.parametrize(
    ("outcome", "judged"),
    [
        (200, (Counter.SUCCESS, 5)),
        (500, (Counter.HTTP_FAILURE, 4)),
        (NO_HTTP, (Counter.HTTP_FAILURE, 4)),
        (404, None),
        (TCP_FAILURE, (Counter.TCP_FAILURE, 3)),
        (TIMEOUT, None),
        (CONNECTED, (Counter.SUCCESS, 5)),
    ],
)
def test_outcomes(outcome: int, judged: tuple[Counter, int] | None) -> None:
    rules = Rules(frozenset({200}), frozenset({500}), successes=5, tcp_failures=3, http_failures=4, timeouts=0)
    assert rules.judge(outcome) == judged


def test_keys_and_rows_of_others() -> None:
    place = Place("upstream/1", "::1", 80, "a.test")
    assert place_of(key_of(place)) == place
    assert place_of(b"something else") is None
    assert decode(b"") == decode(b"\x09\0\0\0\0http") == (Target(), "")
