"""How a command that asks a running gateway finds its Admin API, and what it shows there.

The law: such commands take these options and no others for it; what is not given, the settings say (settings.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Admin = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Admin API, default 127.0.0.1:9180  [env: WASPGATE_ADMIN]")
]
AdminKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="Its key, else the one in its file  [env: WASPGATE_ADMIN_KEY]")
]
Store = Annotated[
    str | None, typer.Option(metavar="URL", help="The gateway's store, beside which its key lies  [env: WASPGATE_STORE]")
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="These settings as a TOML file  [env: WASPGATE_CONFIG]")]
