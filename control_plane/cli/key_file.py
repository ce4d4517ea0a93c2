"""The admin key out of a file that somebody else keeps, such as a secret that Docker or Kubernetes mounts.

The law: the file holds one line. Who may read it is the business of whoever mounts it, so any mode will do.
"""

from __future__ import annotations

from pathlib import Path

from control_plane.cli.errors import CommandError


def read_key_file(path: Path) -> str:
    """Raises CommandError."""
    try:
        key = path.read_bytes().decode("latin-1").strip()
    except OSError as error:
        raise CommandError(f"cannot read the admin key in {path}: {error.strerror}") from error
    if not key or not key.isascii() or not key.isprintable():
        raise CommandError(f"{path} does not hold a key: expected one line of printable ASCII")
    return key
