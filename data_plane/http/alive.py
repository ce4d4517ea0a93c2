"""Whether an idle connection is still one: asked of the socket, since the end may have arrived and not been read yet."""

from __future__ import annotations

import asyncio
import select


def is_quiet(transport: asyncio.Transport) -> bool:
    """Open, with nothing to read: no end, no error, and no words that nobody asked for."""
    if transport.is_closing():
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
    return not poll.poll(0)
