"""A request with a body, or with plugins, on its way to the upstream.

The law: the head leaves when its framing is known, which is at once unless a plugin may change the body: then with the first
piece that the plugins let go on. Until a byte of the body has left, the request can be sent again from its beginning.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from data_plane.exchange.framing import CHUNKED_LINE, chunk, last_chunk, length_line, with_host


@mypyc_attr(allow_interpreted_subclasses=True)
class Outgoing:
    """`framing` is the line that the request came with; `rewritten` when that promises nothing about the body to send."""

    __slots__ = (
        "_chunked",
        "_complete",
        "_framing",
        "_head",
        "_head_sent",
        "_pieces",
        "_rewritten",
        "_trailers",
        "body_sent",
        "eos",
        "size",
    )

    def __init__(self, framing: bytes, rewritten: bool) -> None:
        self._head: bytes | None = None
        self._framing = framing
        self._rewritten = rewritten
        self._head_sent = False
        self._complete = False
        self._chunked = False
        self._pieces: list[bytes] = []
        self._trailers: bytes | None = None
        self.size = 0
        self.body_sent = False
        self.eos = False

    def begin(self, head: bytes) -> None:
        """The open head, as it is to be sent."""
        self._head = head

    def address(self, authority: bytes) -> None:
        """Another Host for the next time that the head is taken."""
        if self._head is not None:
            self._head = with_host(self._head, authority)

    def add(self, data: bytes, eos: bool) -> None:
        self.eos = eos
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def held(self) -> bytes:
        """What of the body is here and has not been taken."""
        return b"".join(self._pieces)

    def end_with(self, trailers: bytes) -> None:
        """The end, with field lines behind it where chunks leave room for them."""
        self.eos = True
        if self._rewritten and not self._head_sent and self._framing:
            self._framing = CHUNKED_LINE
            self._rewritten = False
        self._trailers = trailers

    def is_complete(self) -> bool:
        """Everything has been taken, the end included."""
        return self._complete

    def take(self) -> bytes:
        """What may be sent now, perhaps nothing."""
        if self._head is None or self._complete:
            return b""
        pieces, trailers = self._pieces, self._trailers
        # Trailers are the end themselves, behind a body in chunks.
        last = self.eos and trailers is None
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        out = b""
        if not self._head_sent:
            framing = self._framing
            if self._rewritten and (framing or data):
                if not data and not last:
                    return b""
                framing = length_line(len(data)) if last else CHUNKED_LINE
            self._head_sent = True
            self._chunked = framing == CHUNKED_LINE
            out = b"%b%b\r\n" % (self._head, framing)
        self._complete = self.eos
        self.body_sent = self.body_sent or bool(data)
        self._pieces = []
        self.size = 0
        if not self._chunked:
            return out + data
        out += chunk(data, last)
        return out if trailers is None else out + last_chunk(trailers)

    def rewind(self) -> None:
        """What was taken is lost, and has to go out again. Not after `body_sent`."""
        self._head_sent = False
        self._complete = False
