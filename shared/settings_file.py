"""The settings file of `--config`, as both planes read it: TOML, one flat table of names.

The law: what cannot be read is one line that names the file; which names there are is for whoever reads it to say.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


class SettingsFileError(ValueError):
    """One line for the operator."""


def read_settings(path: Path) -> dict[str, Any]:
    """Raises SettingsFileError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsFileError(f"cannot read the settings in {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsFileError(f"{path} is not TOML: {error}") from error


def as_text(value: object) -> str:
    """A value of the file, as an option or a variable has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    return str(value)
