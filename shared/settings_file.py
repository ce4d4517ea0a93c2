"""The settings file of `--config`, as both planes read it: TOML, one flat table of names.

The law: what cannot be read is one line that names the file; which names there are is for whoever reads it to say, but for
those that only the other plane knows.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

# What the file may say to the control plane, and the data plane does not hear.
OF_THE_CONTROL_PLANE: Final = (
    "admin",
    "admin_key",
    "admin_key_file",
    "admin_keys",
    "admin_allow",
    "admin_hosts",
    "admin_trusted_addresses",
    "admin_tls_cert",
    "admin_tls_key",
    "admin_client_ca",
    "allow_plain_admin",
    "audit_log",
    "allow_private_module_sources",
    "registry_config",
)


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
