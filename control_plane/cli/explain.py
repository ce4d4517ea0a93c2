"""`waspgate explain`: what the gateway would do with a request, without sending it.

The law: the answer is the data plane's own (`python -m data_plane.explain`), in a process of its own; here it is only shown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from control_plane.cli.errors import USAGE, CommandError
from control_plane.cli.settings import load_settings
from control_plane.cli.up import environment

PROGRAM = ("-P", "-m", "data_plane.explain")
# There is no route: as `grep` ends when it finds nothing.
NOTHING = 1
SECONDS = 120


class Output(Enum):
    TEXT = "text"
    JSON = "json"


Method = Annotated[str, typer.Argument(metavar="METHOD", help="As GET")]
Url = Annotated[str, typer.Argument(metavar="URL", help="As http://example.com/path?query")]
Header = Annotated[
    list[str] | None, typer.Option("-H", "--header", metavar="NAME: VALUE", help="A field, repeatable", show_default=False)
]
Store = Annotated[
    str | None, typer.Option(metavar="URL", help="The gateway's store, default that of `waspgate up`  [env: WASPGATE_STORE]")
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="These settings as a TOML file  [env: WASPGATE_CONFIG]")]


def explain(
    method: Method,
    url: Url,
    header: Header = None,
    data: Annotated[str, typer.Option("-d", "--data", metavar="TEXT", help="The body")] = "",
    client: Annotated[str, typer.Option(metavar="ADDRESS", help="Who asks")] = "127.0.0.1",
    store: Store = None,
    config: Config = None,
    output: Annotated[Output, typer.Option("--output", help="How the result is shown")] = Output.TEXT,
) -> None:
    """Say which route a request takes, through which plugins, to which upstream; and why other routes do not take it."""
    asked = _asked(method, url, header or [], client) | {"body": data}
    settings = load_settings({"store": store}, config)
    done = subprocess.run(
        [sys.executable, *PROGRAM],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=environment(settings),
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise CommandError(done.stderr.strip().rpartition("\n")[2] or "the data plane does not explain it", USAGE)
    explained = json.loads(done.stdout)
    if output is Output.JSON:
        typer.echo(json.dumps(explained, indent=2, ensure_ascii=False))
    else:
        for line in lines_of(explained):
            typer.echo(line)
    if explained["problem"]:
        raise typer.Exit(NOTHING)


def _asked(method: str, url: str, headers: list[str], client: str) -> dict[str, Any]:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not parts.hostname:
        raise CommandError(f"expected a URL such as http://example.com/path, got {url}", USAGE)
    fields = [_field(header) for header in headers]
    named = next((value for name, value in fields if name.lower() == "host"), parts.hostname)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    others = [(name, value) for name, value in fields if name.lower() != "host"]
    return {"method": method.upper(), "host": named.partition(":")[0], "target": target, "fields": others, "client": client}


def _field(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"-H: expected NAME: VALUE, got {header!r}", USAGE)
    return name.strip(), value.strip()


def lines_of(explained: Mapping[str, Any]) -> Iterator[str]:
    request, route = explained["request"], explained["route"]
    yield f"{request['method']} {request['host']}{request['path']} (revision {explained['revision']})"
    if route is None:
        yield "route     none: 404"
    else:
        conditions = ("uri", "uris", "host", "hosts", "methods", "remote_addr", "remote_addrs", "vars", "priority")
        said = ", ".join(f"{name} {_short(route[name])}" for name in conditions if name in route)
        yield f"route     {route['id']}: {said}"
    if explained["problem"] and route is not None:
        yield f"problem   {explained['problem']}"
    for plugin in explained["plugins"]:
        yield f"plugin    {plugin['name']} ({plugin['kind']}, priority {plugin['priority']}, of {plugin['owner']})"
    upstream = explained["upstream"]
    if upstream is not None:
        target = upstream.get("nodes", upstream.get("service_name"))
        yield f"upstream  {upstream['from']}: {upstream['scheme']} {_short(target)}, {upstream.get('type', 'roundrobin')}"
    for other in explained["others"]:
        yield f"not taken {other['id']}: {', '.join(other['because'])}"
    for key, problem in explained["problems"].items():
        yield f"broken    {key}: {problem}"


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
