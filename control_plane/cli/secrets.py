"""`waspgate secrets ...`: keys of the secrets in the store, and hashes of admin keys.

The law: a command here prints no secret but the one that it has just made.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.errors import CommandError

app = typer.Typer(
    name="secrets",
    help="Keys that secrets are encrypted with, and hashes of admin keys.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(name="new-key", epilog="Example: waspgate secrets new-key > encryption.keys")
def make_key() -> None:
    """Print a new encryption key."""
    from shared.secrets.keyring import new_key

    typer.echo(new_key())


@app.command(name="hash-key", epilog="Example: waspgate secrets hash-key < key.txt")
def hash_of_key() -> None:
    """Read an admin key from standard input and print what `key_hash` in the settings says of it."""
    from control_plane.auth.hashing import hash_key

    key = sys.stdin.readline().rstrip("\n")
    if len(key) < 16 or not key.isascii() or not key.isprintable():
        raise CommandError("expected a key of 16 characters or more of printable ASCII on standard input")
    typer.echo(hash_key(key))


@app.command(epilog="Example: waspgate secrets rotate --add-key --store etcd://127.0.0.1:2379")
def rotate(
    store: Annotated[str | None, typer.Option(metavar="URL", help="The store  [env: WASPGATE_STORE]")] = None,
    encryption_keys_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The keys  [env: WASPGATE_ENCRYPTION_KEYS_FILE]")
    ] = None,
    add_key: Annotated[bool, typer.Option("--add-key", help="First put a new key at the top of the file")] = False,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The settings  [env: WASPGATE_CONFIG]")] = None,
) -> None:
    """Encrypt all secrets in the store with the first key."""
    from control_plane.cli.settings import load_settings
    from control_plane.rotation import add_key_to, rotate_all
    from shared.secrets.sources import keyring_of, keys_beside

    settings = load_settings({"store": store, "encryption_keys_file": encryption_keys_file}, config)
    keys = "" if settings.encryption_keys is None else settings.encryption_keys.get_secret_value()
    file = settings.encryption_keys_file or (None if keys else keys_beside(settings.store))
    if add_key:
        if file is None:
            raise CommandError("--add-key: the keys are in no file; put a new one first in encryption_keys yourself")
        add_key_to(file)
    keyring = keyring_of(settings.store, keys, "" if file is None else str(file))
    if not keyring:
        raise CommandError("there are no encryption keys: see --encryption-keys-file")
    done = asyncio.run(rotate_all(settings.store, keyring))
    typer.echo(f"{done.rewritten} of {done.looked_at} values with secrets encrypted anew with the key {keyring.ids[0]}")
    for key, reason in done.failed.items():
        typer.echo(f"{key}: {reason}", err=True)
    if done.failed:
        raise CommandError(f"{len(done.failed)} values could not be read: keep the keys that they need")
