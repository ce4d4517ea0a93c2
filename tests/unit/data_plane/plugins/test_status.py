"""What a worker says of a plugin, in every state that it can be in."""

from __future__ import annotations

from data_plane.observe.status import REFUSALS_SHOWN, PluginStatus
from data_plane.plugins.backoff import FIRST_SECONDS
from tests.support.chain import Worker, bind, snapshot
from tests.support.guest import assemble

PAGE = 65536


def status(worker: Worker) -> PluginStatus:
    (found,) = worker.runtime.statuses()
    return found


def test_a_plugin_s_life(worker: Worker) -> None:
    plugin = worker.plugin("p", capabilities=frozenset({"proxy_get_buffer_bytes", "proxy_log"}))
    good, bad = bind(plugin, owner="route/1"), bind(plugin, "response_headers trap", owner="route/2")
    worker.runtime.sync(snapshot(good, bad))
    idle = status(worker)
    assert (idle.state, idle.starts, idle.memory_bytes, idle.contexts, idle.last_error) == ("idle", 0, 0, 0, None)
    assert (idle.name, idle.sha256, idle.failure_policy) == ("p", plugin.sha256, "fail_closed")

    first, second = worker.open(good), worker.open(bad)
    first.request()
    second.request()
    running = status(worker)
    assert (running.state, running.starts, running.contexts, running.streams) == ("running", 1, 2, 2)
    assert running.memory_bytes > PAGE
    assert running.cpu_seconds > idle.cpu_seconds

    second.response()
    waiting = status(worker)
    assert (waiting.state, waiting.failures, waiting.contexts, waiting.streams) == ("waiting", 1, 0, 0)
    assert waiting.last_error is not None
    assert waiting.last_error.code == "unreachable"
    assert waiting.retry_in is not None
    assert 0 < waiting.retry_in <= FIRST_SECONDS * 1.25
    assert waiting.cpu_seconds >= running.cpu_seconds

    worker.loop.advance(FIRST_SECONDS * 1.5)
    assert (status(worker).state, status(worker).retry_in) == ("failed", None)
    worker.open(good).request()
    again = status(worker)
    assert (again.state, again.starts, again.failures) == ("running", 2, 1)
    assert again.last_error == waiting.last_error


def test_a_plugin_that_refuses_says_where_and_why(worker: Worker) -> None:
    plugin = worker.plugin("p", capabilities=frozenset({"proxy_get_buffer_bytes", "proxy_log"}))
    refused = [bind(plugin, "configure return 0", owner=f"route/{number}") for number in range(REFUSALS_SHOWN + 5)]
    good = bind(plugin, owner="route/good")
    worker.runtime.sync(snapshot(*refused, good))
    for binding in refused:
        worker.open(binding).request()
    found = status(worker)
    assert (found.state, found.contexts, found.refusals_total, len(found.refusals)) == (
        *("refused", 0, REFUSALS_SHOWN + 5, REFUSALS_SHOWN),
    )
    assert (found.refusals[0].on, found.refusals[0].reason) == (
        *("route/0", "the plugin answered false to proxy_on_configure"),
    )
    assert found.last_error is not None
    assert found.last_error.code == "refused"
    worker.open(good).request()
    assert status(worker).state == "running"


def test_counts_outlive_a_new_version_of_the_plugin(worker: Worker) -> None:
    before = worker.bind("p")
    worker.runtime.sync(snapshot(before))
    case = worker.open(before)
    case.request()
    old = status(worker)
    after = bind(worker.plugin("p", module=assemble("")))
    worker.runtime.sync(snapshot(after))
    assert (status(worker).state, status(worker).starts) == ("running", 2)
    assert status(worker).cpu_seconds >= old.cpu_seconds, "while the old VM lives"
    case.finish()
    worker.open(after).request()
    assert status(worker).cpu_seconds >= old.cpu_seconds
