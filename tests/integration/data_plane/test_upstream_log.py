"""What the log says of upstreams that fail: a line each while they are few, a number when they are many."""

from __future__ import annotations

from pathlib import Path

from data_plane.observe.upstream_log import LINES_PER_SECOND
from tests.support.command import free_port, wait_until
from tests.support.data_plane import data_plane
from tests.support.gateway import HOST, answering, upstream

ERRORS = 3 * LINES_PER_SECOND


def test_each_error_is_a_line_or_counted(tmp_path: Path) -> None:
    closed = free_port()
    with data_plane(tmp_path, serves=closed) as gateway:
        gateway.ready(1)
        assert {gateway.status() for _ in range(ERRORS)} == {502}

        def told() -> int:
            more = sum(int(str(event["errors"])) for event in gateway.events("more upstream errors"))
            return len(gateway.events("upstream error")) + more

        wait_until(lambda: told() == ERRORS, "every error is told of")
        event = gateway.events("upstream error")[0]
        assert (event["kind"], event["route"], event["node"]) == ("upstream_connect_failed", "1", f"{HOST}:{closed}")
        assert event["level"] == "warning"


def test_a_broken_answer_says_what_it_was(tmp_path: Path) -> None:
    with upstream(answering(b"no http\r\n\r\n")) as server, data_plane(tmp_path, serves=server.port) as gateway:
        gateway.ready(1)
        assert gateway.status() == 502
        wait_until(lambda: bool(gateway.events("upstream error")), "it is told of")
        (event,) = gateway.events("upstream error")
        assert (event["kind"], event["node"]) == ("upstream_bad_response", f"{HOST}:{server.port}")
