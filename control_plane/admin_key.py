"""The file that keeps the admin key of an installation.

The law: the key is random, made once, and readable by its owner only (shared/private_file.py).
"""

from __future__ import annotations

import secrets
from pathlib import Path

from shared.private_file import PrivateFileError, load_or_create

FILE_NAME = "admin.key"
# 32 random bytes: no one guesses 256 bits.
KEY_BYTES = 32

AdminKeyError = PrivateFileError


def load_or_create_admin_key(directory: Path) -> tuple[str, Path, bool]:
    """The key, its file, and whether it was made just now; raises AdminKeyError or OSError."""
    path = directory / FILE_NAME
    text, created = load_or_create(path, lambda: secrets.token_urlsafe(KEY_BYTES) + "\n")
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise AdminKeyError(f"{path} does not hold a key: expected one line of printable ASCII")
    return key, path, created
