"""Logging: JSON lines for machines, one format for structlog and the standard library, colours only where they help."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

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
    assert json.loads(line)["exception"][0]["exc_value"] == "broken"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_it_refuses_them(monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    configure_logging(stream)
    structlog.get_logger().info("started")
    assert "started" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured
