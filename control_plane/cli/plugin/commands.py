"""`waspgate plugin ...`: the loop of a plugin's author, from an empty folder to a running gateway.

The law: a command here only reads its options and shows results; the work is in the file of its name. It ends with 0 when all
is well, 1 when something failed or differs, 2 when it was called wrongly.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane.cli.errors import USAGE, CommandError
from control_plane.cli.gateway_options import Admin, AdminKey, Config, Store
from control_plane.cli.plugin.new import Language

if TYPE_CHECKING:
    from control_plane.cli.plugin.case import Case

app = typer.Typer(
    name="plugin",
    help="Write, build, try and upload plugins.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


Module = Annotated[Path, typer.Argument(metavar="FILE", help="A module, such as build/NAME.wasm")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How the result is written")]


@app.command(epilog="Example: waspgate plugin new --lang rust my-plugin")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, and the folder's")],
    lang: Annotated[Language, typer.Option(help="The language to write it in")],
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the folder is made")] = Path(),
) -> None:
    """Make a folder with a plugin that builds, a test of it and a README."""
    from control_plane.cli.plugin.new import create

    folder = create(lang, name, into)
    typer.echo(f"made {folder}; next: waspgate plugin build {folder}")


@app.command(epilog="Example: waspgate plugin build my-plugin")
def build(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The plugin's folder")] = Path(),
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The module, else build/NAME.wasm in the folder")] = None,
) -> None:
    """Build the plugin in a folder with the toolchain of its language."""
    from control_plane.cli.plugin.build import build as build_folder
    from control_plane.cli.plugin.inspect import describe

    module = build_folder(folder, out)
    found = describe(module.read_bytes())
    if found.problem:
        raise CommandError(f"{module} was built, but is no plugin: {found.problem}")
    typer.echo(f"{module}: {found.size} bytes, ABI {found.abi_version}, {len(found.callbacks)} callbacks")


@app.command(epilog="Example: waspgate plugin inspect build/my-plugin.wasm --output json")
def inspect(file: Module, output: OutputOption = Output.TEXT) -> None:
    """Show what a module is: ABI version, callbacks, host functions, memory, and what is wrong with it."""
    from control_plane.cli.plugin.inspect import describe, document, text
    from control_plane.cli.plugin.run import read_module

    found = describe(read_module(file))
    typer.echo(_json(document(found)) if output is Output.JSON else text(found))
    if found.problem:
        raise typer.Exit(1)


@app.command(epilog='Example: waspgate plugin run build/my-plugin.wasm --conf hello --request "GET /x"')
def run(
    file: Module,
    request: Annotated[
        list[str] | None, typer.Option(metavar="FILE|'METHOD /PATH'", help="What is sent: a TOML or JSON file, or a line")
    ] = None,
    conf: Annotated[str | None, typer.Option(metavar="TEXT|@FILE", help="The plugin's configuration")] = None,
    vm_conf: Annotated[str | None, typer.Option(metavar="TEXT|@FILE", help="Its VM's configuration")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What the plugin is called")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="Of each line")] = None,
    data: Annotated[str, typer.Option("--data", "-d", metavar="TEXT|@FILE", help="The body of each line")] = "",
    expect: Annotated[Path | None, typer.Option(metavar="FILE", help="Fail unless this is what happens")] = None,
    update: Annotated[bool, typer.Option("--update", help="Write what happens to the --expect file")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run a module against requests, without a gateway, and show each callback and host call and what came of it."""
    from control_plane.cli.plugin import run as runner

    if update and expect is None:
        raise CommandError("--update writes the file of --expect: name one", USAGE)
    case = _case(request or ["GET /"], header or [], _text(data, "--data"))
    given = {"configuration": conf, "vm_configuration": vm_conf}
    changes: dict[str, str] = {key: _text(value, f"--{key}") for key, value in given.items() if value is not None}
    if name is not None:
        changes["name"] = name
    done = runner.run(runner.read_module(file), case.model_copy(update=changes))
    if expect is not None:
        # A plugin that fails as it is expected to is a test that passes.
        _compare(expect, runner.text(done, times=False), update)
        return
    if output is Output.JSON:
        typer.echo(_json(runner.document(done)))
    else:
        typer.echo(runner.text(done, times=True), nl=False)
    if done.failure:
        raise typer.Exit(1)


def _case(requests: list[str], headers: list[str], data: str) -> Case:
    from control_plane.cli.plugin.case import described_case, read_case

    if len(requests) == 1 and " " not in requests[0].strip():
        if headers or data:
            raise CommandError("--header and --data belong to lines, not to a file", USAGE)
        return read_case(Path(requests[0]))
    return described_case(requests, headers, data)


def _compare(expect: Path, got: str, update: bool) -> None:
    from control_plane.cli.plugin.run import difference

    if update:
        expect.write_text(got, encoding="utf-8")
        typer.echo(f"wrote {expect}")
        return
    try:
        expected = expect.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot read {expect}: {error.strerror}; --update writes it", USAGE) from error
    differs = difference(expected, got, str(expect))
    if differs:
        _show_difference(differs)
        raise typer.Exit(1)
    typer.echo(f"as expected by {expect}")


_COLOURS = {"+": typer.colors.GREEN, "-": typer.colors.RED, "@": typer.colors.CYAN}


def _show_difference(differs: str) -> None:
    """In colours on a terminal, unless NO_COLOR is set."""
    for line in differs.splitlines():
        typer.secho(line, fg=_COLOURS.get(line[:1]), color=False if os.environ.get("NO_COLOR") else None)


@app.command(epilog="Example: waspgate plugin push my-plugin build/my-plugin.wasm")
def push(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the plugin is called in the gateway")],
    file: Module,
    vm_conf: Annotated[str | None, typer.Option(metavar="TEXT|@FILE", help="Set its VM's configuration as well")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until every worker has it")] = True,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, max=300, help="How long to wait")] = 30,
    admin: Admin = None,
    admin_key: AdminKey = None,
    store: Store = None,
    config: Config = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Upload a module to a running gateway under a name, and wait until every worker has it."""
    from control_plane.cli.plugin.push import push as push_module
    from control_plane.cli.plugin.run import read_module
    from control_plane.cli.settings import load_settings

    module = read_module(file)
    settings = load_settings({"store": store, "admin": admin, "admin_key": admin_key}, config)
    configuration = None if vm_conf is None else _text(vm_conf, "--vm-conf")
    answer, workers = push_module(settings, name, module, configuration, timeout if wait else None)
    if output is Output.JSON:
        typer.echo(_json(answer | {"workers": workers}))
        return
    typer.echo(f"{name}: {answer['sha256']}, {answer['size']} bytes, ABI {answer['abi_version']}")
    if workers == 0:
        typer.echo("no worker has it: there is no data plane")
    elif workers is not None:
        typer.echo(f"{workers} worker{'' if workers == 1 else 's'} {'has' if workers == 1 else 'have'} it")


def _text(value: str, option: str) -> str:
    """The value itself, or what a file has that it names with an @."""
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{option}: cannot read {value[1:]}: {error}", USAGE) from error


def _json(document: object) -> str:
    return json.dumps(document, indent=2)
