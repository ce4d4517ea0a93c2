"""The command line: `waspgate up | control-plane | data-plane | reload | apply | diff | dump | explain | status | plugin ...`.

The law: a command only gathers its settings and starts processes; the planes never import each other, and this is the
one place that knows how both are started.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli import up as both
from control_plane.cli.configuration import commands as configuration
from control_plane.cli.errors import CommandError
from control_plane.cli.explain import explain
from control_plane.cli.plugin.commands import app as plugin
from control_plane.cli.reload import reload
from control_plane.cli.secrets import app as secrets
from control_plane.cli.settings import load_settings
from control_plane.cli.status import status as show_status

app = typer.Typer(
    name="waspgate",
    help="An API gateway whose plugins are Proxy-Wasm modules.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="sqlite:///PATH or etcd://HOST:PORT[,HOST:PORT...]  [env: WASPGATE_STORE]",
    ),
]
Admin = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Admin API, default 127.0.0.1:9180  [env: WASPGATE_ADMIN]"),
]
Listen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Gateway, default 127.0.0.1:9080  [env: WASPGATE_LISTEN]"),
]
Options = dict[str, object]
StreamListen = Annotated[
    list[str] | None,
    typer.Option(metavar="[SCHEME://]HOST:PORT", help="Gateway for TCP, repeatable  [env: WASPGATE_STREAM_LISTEN]"),
]
TlsListen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Gateway for TLS, default none  [env: WASPGATE_TLS_LISTEN]"),
]
Workers = Annotated[int | None, typer.Option(metavar="N", help="Worker processes, default 1  [env: WASPGATE_WORKERS]")]
Prometheus = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Metrics, default 127.0.0.1:9091, empty: none  [env: WASPGATE_PROMETHEUS]"),
]
TraceKey = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Requests with it are traced, default none  [env: WASPGATE_TRACE_KEY]"),
]
Control = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Control API, default 127.0.0.1:9090, empty: none  [env: WASPGATE_CONTROL]"),
]
Status = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Status API, default 127.0.0.1:7085, empty: none  [env: WASPGATE_STATUS]"),
]
AdminKey = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Key of the Admin API, else one is made  [env: WASPGATE_ADMIN_KEY]"),
]
AdminKeyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The file that has it, as of a secret  [env: WASPGATE_ADMIN_KEY_FILE]"),
]
AdminTlsCert = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Certificate of the Admin API, default no TLS  [env: WASPGATE_ADMIN_TLS_CERT]"),
]
AdminTlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Its key  [env: WASPGATE_ADMIN_TLS_KEY]")]
AdminClientCa = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Who vouches for clients, default nobody is asked  [env: WASPGATE_ADMIN_CLIENT_CA]"),
]
AllowPlainAdmin = Annotated[
    bool | None,
    typer.Option(
        "--allow-plain-admin/--no-plain-admin",
        help="The Admin API may be reached by others without TLS, default no  [env: WASPGATE_ALLOW_PLAIN_ADMIN]",
    ),
]
AuditLog = Annotated[Path | None, typer.Option(metavar="FILE", help="Audit log, default the log  [env: WASPGATE_AUDIT_LOG]")]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Keys of secrets in the store, default beside a store that is a file  [env: WASPGATE_ENCRYPTION_KEYS_FILE]",
    ),
]
PrivateSources = Annotated[
    bool | None,
    typer.Option(
        "--allow-private-module-sources/--no-private-module-sources",
        help="Modules may be fetched from addresses that are not public, default no  "
        "[env: WASPGATE_ALLOW_PRIVATE_MODULE_SOURCES]",
    ),
]
RegistryConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Credentials of registries, as Docker's config.json  [env: WASPGATE_REGISTRY_CONFIG]"),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="These settings as a TOML file  [env: WASPGATE_CONFIG]")]
ConfigOrGateway = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="These settings as a TOML file; or, as .yaml or .json, all routes instead of a store  [env: WASPGATE_CONFIG]",
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            known = version("waspgate")
        except PackageNotFoundError:
            known = "0+unknown"  # a checkout that nobody installed
        typer.echo(f"waspgate {known}")
        raise typer.Exit


@app.callback()
def waspgate(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """An API gateway whose plugins are Proxy-Wasm modules."""


@app.command(epilog="Example: waspgate up --workers 2 --listen 0.0.0.0:9080")
def up(
    store: Store = None,
    admin: Admin = None,
    listen: Listen = None,
    tls_listen: TlsListen = None,
    stream_listen: StreamListen = None,
    workers: Workers = None,
    prometheus: Prometheus = None,
    control: Control = None,
    status: Status = None,
    trace_key: TraceKey = None,
    admin_key: AdminKey = None,
    admin_key_file: AdminKeyFile = None,
    allow_private_module_sources: PrivateSources = None,
    registry_config: RegistryConfig = None,
    admin_tls_cert: AdminTlsCert = None,
    admin_tls_key: AdminTlsKey = None,
    admin_client_ca: AdminClientCa = None,
    allow_plain_admin: AllowPlainAdmin = None,
    audit_log: AuditLog = None,
    encryption_keys_file: KeysFile = None,
    config: Config = None,
) -> None:
    """Run the control plane and the data plane together."""
    options: Options = {"store": store, "admin": admin, "listen": listen, "workers": workers, "admin_key": admin_key}
    options |= {"stream_listen": stream_listen, "prometheus": prometheus, "control": control, "status": status}
    options |= {"trace_key": trace_key}
    options |= {"allow_private_module_sources": allow_private_module_sources, "registry_config": registry_config}
    options |= {"tls_listen": tls_listen, "admin_key_file": admin_key_file}
    options |= {"admin_tls_cert": admin_tls_cert, "admin_tls_key": admin_tls_key, "admin_client_ca": admin_client_ca}
    options |= {"allow_plain_admin": allow_plain_admin, "audit_log": audit_log, "encryption_keys_file": encryption_keys_file}
    raise typer.Exit(both.run(load_settings(options, config)))


@app.command(epilog="Example: waspgate control-plane --store etcd://127.0.0.1:2379")
def control_plane(
    store: Store = None,
    admin: Admin = None,
    admin_key: AdminKey = None,
    admin_key_file: AdminKeyFile = None,
    allow_private_module_sources: PrivateSources = None,
    registry_config: RegistryConfig = None,
    admin_tls_cert: AdminTlsCert = None,
    admin_tls_key: AdminTlsKey = None,
    admin_client_ca: AdminClientCa = None,
    allow_plain_admin: AllowPlainAdmin = None,
    audit_log: AuditLog = None,
    encryption_keys_file: KeysFile = None,
    config: Config = None,
) -> None:
    """Run the Admin API."""
    # The web framework takes half a second to import; the other commands do without it.
    from control_plane.cli import serve

    options: Options = {"store": store, "admin": admin, "admin_key": admin_key, "admin_key_file": admin_key_file}
    options |= {"allow_private_module_sources": allow_private_module_sources, "registry_config": registry_config}
    options |= {"admin_tls_cert": admin_tls_cert, "admin_tls_key": admin_tls_key, "admin_client_ca": admin_client_ca}
    options |= {"allow_plain_admin": allow_plain_admin, "audit_log": audit_log, "encryption_keys_file": encryption_keys_file}
    serve.run(load_settings(options, config))


@app.command(epilog="Example: waspgate data-plane --store etcd://127.0.0.1:2379 --workers 4")
def data_plane(
    store: Store = None,
    listen: Listen = None,
    tls_listen: TlsListen = None,
    stream_listen: StreamListen = None,
    workers: Workers = None,
    prometheus: Prometheus = None,
    control: Control = None,
    status: Status = None,
    trace_key: TraceKey = None,
    encryption_keys_file: KeysFile = None,
    config: ConfigOrGateway = None,
) -> None:
    """Run the workers that proxy requests."""
    options: Options = {"tls_listen": tls_listen, "encryption_keys_file": encryption_keys_file}
    options |= {"store": store, "listen": listen, "workers": workers, "stream_listen": stream_listen}
    options |= {"prometheus": prometheus, "control": control, "status": status, "trace_key": trace_key}
    both.become_data_plane(load_settings(options, config, standalone=True))


@app.command(name="reload", epilog="Example: waspgate reload --config /etc/waspgate.toml")
def reload_data_plane(listen: Listen = None, config: ConfigOrGateway = None) -> None:
    """Have the data plane that listens here read its settings again, and replace its workers without losing a request."""
    settings = load_settings({"listen": listen}, config, standalone=True)
    run = reload(settings)
    typer.echo(f"new workers serve {settings.listen} (data plane {run.pid})")


app.command(name="status", epilog="Example: waspgate status --watch")(show_status)
configuration.register(app)
app.command(epilog="Example: waspgate explain GET http://example.com/hello -H 'X-Api-Version: 2'")(explain)
app.add_typer(plugin)
app.add_typer(secrets)


def main() -> None:
    """The console script."""
    try:
        app(prog_name="waspgate")
    except CommandError as error:
        typer.echo(f"waspgate: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
