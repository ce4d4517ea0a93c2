"""`waspgate apply`, `diff` and `dump`: a whole configuration as a file.

The law: `dump` and `apply` are a circle: what was dumped changes nothing. A section that a file has is the whole of its kind;
of kinds that it does not name it says nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from control_plane.cli.admin_client import AdminClient, Refused
from control_plane.cli.configuration.changes import Paint, lines_of, summary
from control_plane.cli.configuration.files import SECTIONS_OF_VERSIONS, STDIN, as_yaml, read_document
from control_plane.cli.errors import USAGE, CommandError
from control_plane.cli.gateway_options import Admin, AdminKey, Config, Store
from control_plane.cli.settings import load_settings

# What `diff` ends with when there is a difference; its errors have USAGE.
DIFFERENT = 1


class Output(Enum):
    TEXT = "text"
    JSON = "json"


class Format(Enum):
    YAML = "yaml"
    JSON = "json"


class Prune(Enum):
    ALL = "all"
    SECTIONS = "sections"
    NONE = "none"


Kinds = Annotated[
    list[str] | None, typer.Argument(metavar="[KIND]...", help="As routes or upstreams; all unless said", show_default=False)
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="YAML, or JSON if it is called so; - reads the standard input")]
PruneOption = Annotated[
    Prune,
    typer.Option("--prune", help="Delete what the file lacks: in the sections that it has, in all kinds, or nowhere"),
]
OutputOption = Annotated[Output, typer.Option("--output", help="How the result is shown")]


def apply(
    file: File,
    prune: PruneOption = Prune.SECTIONS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing")] = False,
    wait: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="Until every worker serves it")] = None,
    admin: Admin = None,
    admin_key: AdminKey = None,
    store: Store = None,
    config: Config = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make the gateway's configuration what a file says, in one change."""
    query = {"prune": prune.value} | ({"dry_run": "true"} if dry_run else {})
    if wait is not None and not dry_run:
        query |= {"wait": "applied", "timeout": f"{wait:g}"}
    answer = _put(_client(admin, admin_key, store, config), file, query)
    _show(answer, output)
    if output is Output.TEXT:
        typer.echo(summary(answer))


def diff(
    file: File,
    prune: PruneOption = Prune.SECTIONS,
    admin: Admin = None,
    admin_key: AdminKey = None,
    store: Store = None,
    config: Config = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what `apply` would change. Ends with 0 when that is nothing, with 1 when there is a difference, with 2 on errors."""
    try:
        client = _client(admin, admin_key, store, config)
        answer = _put(client, file, {"prune": prune.value, "dry_run": "true"})
    except CommandError as error:
        raise CommandError(str(error), USAGE) from error
    _show(answer, output)
    if answer["changes"]:
        raise typer.Exit(DIFFERENT)


def dump(
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help="As routes or upstreams; all unless said")
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="Of what is written")] = Format.YAML,
    admin: Admin = None,
    admin_key: AdminKey = None,
    store: Store = None,
    config: Config = None,
) -> None:
    """Write the gateway's whole configuration, without its secrets, as a file that `apply` takes."""
    whole = _client(admin, admin_key, store, config).get("configs")
    known = [name.removesuffix(SECTIONS_OF_VERSIONS) for name in whole if name.endswith(SECTIONS_OF_VERSIONS)]
    for kind in kinds or ():
        if kind not in known:
            raise CommandError(f"unknown kind {kind}, known are {', '.join(known)}", USAGE)
    document = {kind: whole[kind] for kind in known if kind in whole and (not kinds or kind in kinds)}
    if format is Format.JSON:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        typer.echo(as_yaml(document), nl=False)


def _client(admin: str | None, admin_key: str | None, store: str | None, config: Path | None) -> AdminClient:
    return AdminClient(load_settings({"store": store, "admin": admin, "admin_key": admin_key}, config))


def _put(client: AdminClient, file: Path, query: dict[str, str]) -> dict[str, Any]:
    body = json.dumps(read_document(file)).encode()
    # Not the digest of a client that keeps count: what is there already is found object by object.
    digest = f"waspgate-{hashlib.sha256(body + urlencode(query).encode()).hexdigest()}"
    try:
        reply = client.send("PUT", f"configs?{urlencode(query)}", body, {"X-Digest": digest})
    except Refused as refused:
        errors = refused.body.get("errors")
        if not isinstance(errors, list) or not errors:
            raise
        name = "standard input" if file == STDIN else str(file)
        lines = [f"{name}: {error.get('path')}: {error.get('error', error.get('message'))}" for error in errors]
        raise CommandError("\n".join(lines)) from refused
    nothing = {"create": 0, "replace": 0, "delete": 0, "unchanged": 0, "changes": []}
    return reply.document or nothing


def _show(answer: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    for line in lines_of(answer["changes"], _painter()):
        typer.echo(line)


def _painter() -> Paint:
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return lambda text, colour: typer.style(text, fg=colour)
    return lambda text, _colour: text


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: waspgate apply gateway.yaml --dry-run")(apply)
    app.command(epilog="Example: waspgate diff gateway.yaml --prune all")(diff)
    app.command(epilog="Example: waspgate dump routes upstreams > gateway.yaml")(dump)
