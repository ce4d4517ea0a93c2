"""Go's runtime in this host: goroutines, sleeps, garbage and memory work, and its ways to die are told from one another."""

from __future__ import annotations

import pytest

from shared.proxy_wasm import Limits, LogLevel, Plugin, Stream
from tests.support.go_guest import build_go

LIMITS = Limits(start_cpu_ms=5000, callback_cpu_ms=300, memory_bytes=32 << 20)


def load(**environment: str) -> Plugin:
    return Plugin.load(build_go("runtime"), environment=environment, limits=LIMITS)


@pytest.fixture(scope="module")
def loaded() -> Plugin:
    return load(COLOUR="blue")


@pytest.fixture
def plugin(loaded: Plugin) -> Plugin:
    loaded.logs.clear()
    return loaded


def act(plugin: Plugin, what: str) -> Stream:
    return plugin.request(path=f"/{what.replace(' ', '+')}")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("goroutine", "from a goroutine"),
        ("stdout", "to stdout"),
        ("arguments", "0 blue "),
        ("file", "open /etc/passwd: No such file or directory"),
        ("create", "mkdir /tmp/made: Not supported"),
        ("clock", "true Local"),
    ],
)
def test_what_a_program_expects_of_its_system(plugin: Plugin, what: str, said: str) -> None:
    assert act(plugin, what).response.status == 200
    assert [(line.level, line.message) for line in plugin.logs] == [(LogLevel.INFO, said)]


def test_standard_error_is_the_error_log(plugin: Plugin) -> None:
    act(plugin, "stderr")
    assert [(line.level, line.message) for line in plugin.logs] == [(LogLevel.ERROR, "to stderr")]


def test_a_short_sleep_and_a_collection_of_garbage_pass(plugin: Plugin) -> None:
    for what in ("sleep", "garbage") * 5:
        assert act(plugin, what).response.status == 200
    assert plugin.failure is None


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("panic", "unreachable", ["panic: ", "oh no"]),
        ("deadlock", "unreachable", ["fatal error: ", "all goroutines are asleep - deadlock!"]),
        ("exit", "unreachable", ["the plugin called proc_exit with code 3"]),
        ("too long", "interrupt", []),
    ],
)
def test_how_it_dies(what: str, code: str, words: list[str]) -> None:
    plugin = load()
    stream = act(plugin, what)
    assert stream.response.status == 503
    assert plugin.failure is not None
    assert plugin.failure.code == code
    assert plugin.messages[: len(words)] == words


def rounds(plugin: Plugin) -> int:
    """How often of five times 16 MiB could be held, let go, and 20 MiB be made and forgotten."""
    for number in range(5):
        for what in ("grow",) * 4 + ("again", "garbage"):
            act(plugin, what)
            if plugin.failure is not None:
                return number
    return 5


def test_garbage_is_collected_in_time_where_go_knows_its_limit() -> None:
    """Left alone it lets the heap double, which 32 MiB do not allow."""
    told = load(GOMEMLIMIT="24MiB")
    assert rounds(told) == 5
    told.close()
    untold = load()
    assert rounds(untold) < 5
    assert "out of memory" in untold.messages


def test_memory_grows_to_the_limit() -> None:
    plugin = load()
    numbers = []
    while plugin.failure is None:
        plugin.logs.clear()
        act(plugin, "grow")
        numbers.append(plugin.messages[0])
    assert numbers == [*map(str, range(1, 8)), "runtime: out of memory: cannot allocate "]
