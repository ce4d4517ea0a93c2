"""`python -m data_plane`: the supervisor and its workers."""

from __future__ import annotations

import os
import sys

from data_plane.settings import SettingsError, load
from data_plane.supervisor import supervise
from data_plane.tcp.addresses import StreamListenError
from shared.log import configure_logging


def main() -> int:
    try:
        settings = load(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.stderr.write(f"waspgate data-plane: {error}\n")
        return 2
    configure_logging()
    try:
        return supervise(settings)
    except StreamListenError as error:
        sys.stderr.write(f"waspgate data-plane: {error}\n")
        return 1
    except OSError as error:
        reason = error.strerror or str(error)
        sys.stderr.write(f"waspgate data-plane: cannot listen on {settings.address} (--listen): {reason}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
