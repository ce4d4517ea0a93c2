"""Encrypts what is in the store with the first key of the keyring.

The law: a value is replaced only as it was read, so that a rotation runs while others write; what is encrypted with the first
key already, or has no secret, is not touched. What cannot be opened stays as it is and is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from control_plane.cli.errors import CommandError
from shared.keys import CONFIG_PREFIX
from shared.private_file import replace_private
from shared.secrets.keyring import MARK, Keyring, SealError, new_key
from shared.secrets.sealed_store import SEALED_WHOLE, open_value, seal_value
from shared.store.contract import ConfigStore, Entry, Expect, Put, StoreError
from shared.store.url import open_store

# A value that others write all the time is tried again so often.
ATTEMPTS = 20


@dataclass(slots=True)
class Rotation:
    """`failed` by key."""

    looked_at: int = 0
    rewritten: int = 0
    failed: dict[str, str] = field(default_factory=dict)


async def rotate_all(url: str, keyring: Keyring) -> Rotation:
    """Raises CommandError."""
    done = Rotation()
    try:
        async with open_store(url) as store:
            for prefix in (CONFIG_PREFIX, *SEALED_WHOLE):
                for entry in (await store.list(prefix)).entries:
                    await _rotate(store, keyring, entry, done)
    except StoreError as error:
        raise CommandError(f"the store cannot be used: {error}") from error
    return done


async def _rotate(store: ConfigStore, keyring: Keyring, entry: Entry, done: Rotation) -> None:
    found: Entry | None = entry
    for _ in range(ATTEMPTS):
        if found is None:
            return
        try:
            wanted = seal_value(keyring, found.key, open_value(keyring, found.key, found.value))
        except SealError as error:
            done.looked_at += 1
            done.failed[found.key] = str(error)
            return
        if wanted == found.value:
            done.looked_at += MARK in wanted
            return
        operations = [Put(found.key, wanted, found.lease)]
        if (await store.transaction([Expect(found.key, found.mod_revision)], operations)).committed:
            done.looked_at += 1
            done.rewritten += 1
            return
        found = await store.get(found.key)
    done.failed[entry.key] = "changes all the time"


def add_key_to(file: Path) -> None:
    """Puts a new key before all others. Raises CommandError."""
    try:
        replace_private(file, f"{new_key()}\n{file.read_text()}")
    except OSError as error:
        raise CommandError(f"{file} cannot be changed: {error.strerror}") from error
