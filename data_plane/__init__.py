"""The data plane: see docs/architecture.md."""

# For the finder that it installs: half of the compiled modules are here.
import shared  # noqa: F401
