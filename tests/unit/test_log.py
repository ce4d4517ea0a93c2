"""Logging: JSON lines for machines, one format for structlog and the standard library, colours only where they help."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from shared.log import configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_both_libraries_write_the_same_json() -> None:
    stream = io.StringIO()
    configure_logging(stream)
    structlog.get_logger().info("started", workers=2)
    logging.getLogger("uvicorn").warning("port %d", 80)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("started", "info"), ("port 80", "warning")]
    assert lines[0]["workers"] == 2
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_what_is_below_the_level_is_dropped() -> None:
    stream = io.StringIO()
    configure_logging(stream)
    structlog.get_logger().debug("detail")
    logging.getLogger("grpc").debug("detail")
    assert stream.getvalue() == ""


def test_an_exception_is_one_line_of_json() -> None:
    stream = io.StringIO()
    configure_logging(stream)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("unexpected error")
    (line,) = stream.getvalue().splitlines()
    trace = json.loads(line)["exception"]
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.endswith("ValueError: broken")


@pytest.mark.parametrize("stream_type", [io.StringIO, Terminal], ids=["json", "terminal"])
@pytest.mark.parametrize("library", [structlog.get_logger, logging.getLogger], ids=["structlog", "logging"])
def test_a_traceback_shows_where_and_never_what_variables_hold(
    stream_type: type[io.StringIO], library: Callable[[], Any]
) -> None:
    stream = stream_type()
    configure_logging(stream)

    def fails(key: str, rows: list[int]) -> None:
        raise ValueError(f"{len(key)} characters, {len(rows)} rows")

    # In two pieces, because the source line itself is shown.
    secret = "-".join(["edd1c9", "f034335f136f87ad84b625c8f1"])
    try:
        fails(secret, list(range(100_000)))
    except ValueError:
        library().exception("unexpected error")
    written = stream.getvalue()
    assert "33 characters, 100000 rows" in written
    assert "in fails" in written
    assert secret not in written
    assert "99999" not in written
    assert len(written) < 2000


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_it_refuses_them(monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    configure_logging(stream)
    structlog.get_logger().info("started")
    assert "started" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured
