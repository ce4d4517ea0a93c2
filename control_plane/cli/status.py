"""`waspgate status`: the data planes of a gateway and how far their workers are.

The law: it shows what the workers say of themselves, as the Admin API has it: a table at a terminal, the same in plain text
where it is piped, the answer itself as JSON. With `--watch` it goes on until it is interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from control_plane.cli.admin_client import AdminClient
from control_plane.cli.gateway_options import Admin, AdminKey, Config, Store
from control_plane.cli.settings import Settings, load_settings

EVERY_SECONDS: Final = 1.0
HEADINGS: Final = ("DATA PLANE", "HOST", "LISTEN", "VERSION", "WORKER", "PID", "REVISION", "STATE", "UP", "PROBLEMS")
NOBODY: Final = "no data plane is registered"
COLOURS: Final = {"ready": "green", "starting": "yellow", "stale": "yellow"}

Row = tuple[str, ...]


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until it is interrupted")] = False,
    admin: Admin = None,
    admin_key: AdminKey = None,
    store: Store = None,
    config: Config = None,
    output: Annotated[Output, typer.Option(help="How to show it")] = Output.TEXT,
) -> None:
    """Show the data planes of a gateway, and which revision each of their workers serves."""
    show(load_settings({"store": store, "admin": admin, "admin_key": admin_key}, config), output, watch=watch)


def show(settings: Settings, output: Output, *, watch: bool) -> None:
    """Raises CommandError."""
    api = AdminClient(settings)

    def answers() -> Iterator[dict[str, Any]]:
        yield api.get("data_planes")
        while watch:
            time.sleep(EVERY_SECONDS)
            yield api.get("data_planes")

    if output is Output.JSON:
        for answer in answers():
            typer.echo(json.dumps(answer, indent=None if watch else 2))
    elif sys.stdout.isatty():
        _on_terminal(answers)
    else:
        for answer in answers():
            typer.echo(plain(answer, time.time()))


def plain(answer: Mapping[str, Any], now: float) -> str:
    """The table without any colour, each column as wide as it must be, and the problems below."""
    found = rows(answer, now)
    if not found:
        return NOBODY
    widths = [max(map(len, column)) for column in zip(HEADINGS, *found, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (HEADINGS, *found)
    ]
    return "\n".join([*lines, *problems(answer)])


def rows(answer: Mapping[str, Any], now: float) -> list[Row]:
    """One for each worker; `now` is Unix time."""
    return [_row(plane, worker, now) for plane in answer["list"] for worker in plane["live_workers"]]


def _row(plane: Mapping[str, Any], worker: Mapping[str, Any], now: float) -> Row:
    return (
        plane["id"][:8],
        plane["host"],
        plane["listen"],
        plane["version"],
        f"{worker['worker']}/{plane['workers']}",
        str(worker["pid"]),
        str(worker["revision"]),
        _state(worker),
        _duration(now - worker["started_at"]),
        str(worker["problems_total"]),
    )


def _state(worker: Mapping[str, Any]) -> str:
    if not worker["ready"]:
        return "starting"
    return "stale" if worker["stale"] else "ready"


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def problems(answer: Mapping[str, Any]) -> list[str]:
    """One line for each, with how many workers say so."""
    counted: dict[tuple[str, str], int] = {}
    for plane in answer["list"]:
        for worker in plane["live_workers"]:
            for key, text in worker["problems"].items():
                counted[key, text] = counted.get((key, text), 0) + 1
    return [f"{key}: {text} ({_workers(count)})" for (key, text), count in sorted(counted.items())]


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


def _on_terminal(answers: Callable[[], Iterator[dict[str, Any]]]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=bool(os.environ.get("NO_COLOR")))
    shown = answers()
    try:
        with Live(_table(next(shown)), console=console, auto_refresh=False) as live:
            for answer in shown:
                live.update(_table(answer), refresh=True)
    except KeyboardInterrupt:
        return


def _table(answer: Mapping[str, Any]) -> Any:  # noqa: ANN401 - one of rich's renderables
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found: Sequence[Row] = rows(answer, time.time())
    if not found:
        return Text(NOBODY)
    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    for row in found:
        table.add_row(*(Text(cell, COLOURS.get(cell, "")) for cell in row))
    return Group(table, *(Text(line, "red") for line in problems(answer)))
