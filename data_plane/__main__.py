"""`python -m data_plane`: the supervisor and its workers."""

from __future__ import annotations

import os
import sys

from data_plane.settings import SettingsError, load
from data_plane.supervisor import ListenError, supervise
from shared.log import configure_logging


def main() -> int:
    try:
        settings = load(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.stderr.write(f"waspgate data-plane: {error}\n")
        return 2
    configure_logging()
    try:
        return supervise(settings, lambda: load(sys.argv[1:], os.environ))
    except ListenError as error:
        sys.stderr.write(f"waspgate data-plane: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
