"""Configuration files: YAML or JSON, with the sections of APISIX's standalone file.

The law: what a file says wrongly is told with its name and its line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from control_plane.cli.errors import USAGE, CommandError
from shared.schema.document import DocumentError, decode
from shared.yaml_document import decode_yaml, encode_yaml

STDIN = Path("-")
# What APISIX's standalone file ends with.
END = "#END\n"
SECTIONS_OF_VERSIONS = "_conf_version"


def read_document(path: Path) -> dict[str, Any]:
    """A whole configuration. Raises CommandError."""
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", USAGE) from error
    try:
        document = decode(data) if path.suffix == ".json" else decode_yaml(data)
    except DocumentError as error:
        raise CommandError(f"{path}: {error}", USAGE) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CommandError(f"{path}: expected sections such as routes: and upstreams:", USAGE)
    # APISIX's list of what is switched on: here everything is.
    return {name: section for name, section in document.items() if name not in ("plugins", "stream_plugins")}


def as_yaml(document: dict[str, Any]) -> str:
    return (encode_yaml(document) if document else "") + END
