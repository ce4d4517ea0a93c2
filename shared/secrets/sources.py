"""Where the keys come from that secrets are encrypted with.

The law: keys are given as text or as a file, the same for all processes of a cluster. A store that is a file of this host has
its keys in a file beside it, which the first control plane makes; for a store that others share nobody makes a key of his own,
because the others could not read what he writes.
"""

from __future__ import annotations

from pathlib import Path

from shared.private_file import load_or_create
from shared.secrets.keyring import Keyring, new_key, read_keys
from shared.store.url import folder_of

FILE_NAME = "encryption.keys"
HEADER = "# Waspgate encrypts secrets with the first of these keys and decrypts them with all. Without them they are lost.\n"


def keyring_of(store: str, keys: str = "", file: str = "") -> Keyring:
    """For a process that reads or writes the store at this URL. Raises ValueError."""
    if keys:
        return Keyring(read_keys(keys))
    if file:
        return Keyring(file=Path(file))
    beside = keys_beside(store)
    return Keyring() if beside is None else Keyring(file=beside)


def keys_beside(store: str) -> Path | None:
    """The file that has the keys unless others are given."""
    folder = folder_of(store)
    return None if folder is None else folder / FILE_NAME


def make_keys(path: Path) -> bool:
    """False when they are there. Raises PrivateFileError or another OSError, and ValueError for a file that has none."""
    text, created = load_or_create(path, lambda: f"{HEADER}{new_key()}\n")
    if not read_keys(text):
        raise ValueError("there is no key in it")
    return created


def check_keys(text: str) -> str:
    """The text of a setting. Raises ValueError."""
    if not read_keys(text):
        raise ValueError("there is no key in it")
    return text


def check_keys_file(path: str) -> str:
    """Raises ValueError."""
    try:
        check_keys(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return path
