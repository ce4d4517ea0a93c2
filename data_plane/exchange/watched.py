"""One attempt at a node that somebody wants to hear of: it stands between the exchange and the connection, and listens.

The law: to the connection it is the exchange, to the exchange the connection; every event and every command goes on unchanged.
The attempt hears of the final response's head or of the failure that came instead, and of the end, whoever brings it about.
Upstreams that nobody watches (sending.py asks the picker) have none of this between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from data_plane.exchange.messages import ResponseHead
from data_plane.exchange.requester import Requester

if TYPE_CHECKING:
    from data_plane.config.snapshot import Attempt
    from data_plane.exchange.ports import UpstreamPort
    from data_plane.exchange.sending import Sending


@mypyc_attr(allow_interpreted_subclasses=True)
class Watched(Requester):
    """An UpstreamPort as well, once it has a connection: from `over`, or from `upstream_ready`."""

    __slots__ = ("_answered", "_attempt", "_conn", "_exchange")

    def __init__(self, exchange: Sending, attempt: Attempt) -> None:
        super().__init__(exchange.head)
        self._exchange = exchange
        self._attempt = attempt
        self._conn: UpstreamPort
        self._answered = False

    def __repr__(self) -> str:
        return f"<Watched {self._attempt!r} of {self._exchange!r}>"

    def over(self, conn: UpstreamPort) -> Watched:
        """Itself, on this connection."""
        self._conn = conn
        return self

    def apart(self) -> tuple[UpstreamPort, Attempt]:
        """For a tunnel, which has use for the connection itself only: whoever takes this ends the attempt."""
        return self._conn, self._attempt

    # What the pool and the connection tell the exchange.

    def upstream_ready(self, conn: UpstreamPort) -> None:
        self._exchange.upstream_ready(self.over(conn))

    def upstream_failed(self, kind: str) -> None:
        self._attempt.failed(kind)
        self._exchange.upstream_failed(kind)

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        self._answered = True
        self._attempt.answered(response.status)
        self._exchange.upstream_response(response, body, eos)

    def upstream_interim(self, response: ResponseHead) -> None:
        self._exchange.upstream_interim(response)

    def upstream_switched(self, response: ResponseHead, early: bytes) -> None:
        self._answered = True
        self._attempt.answered(response.status)
        self._exchange.upstream_switched(response, early)

    def upstream_body(self, data: bytes, eos: bool) -> None:
        self._exchange.upstream_body(data, eos)

    def upstream_trailers(self, lines: bytes) -> None:
        self._exchange.upstream_trailers(lines)

    def upstream_lost(self, kind: str) -> None:
        # An idle connection that had ended says nothing about the node.
        if self._answered or (self.reused and kind == "upstream_closed"):
            self._attempt.end()
        else:
            self._attempt.failed(kind)
        self._exchange.upstream_lost(kind)

    def upstream_blocked(self) -> None:
        self._exchange.upstream_blocked()

    def upstream_writable(self) -> None:
        self._exchange.upstream_writable()

    @property
    def send_timeout(self) -> float:
        return self._exchange.send_timeout

    @property
    def keeps_trailers(self) -> bool:
        return self._exchange.keeps_trailers

    def upgrades(self) -> bool:
        return self._exchange.upgrades()

    # What the exchange commands its connection.

    @property
    def reused(self) -> bool:
        return self._conn.reused

    @property
    def heard(self) -> bool:
        return self._conn.heard

    def begin(self, exchange: Requester, data: bytes, read_timeout: float) -> None:
        self._conn.begin(self, data, read_timeout)

    def send(self, data: bytes) -> None:
        self._conn.send(data)

    def await_response(self, read_timeout: float) -> None:
        self._conn.await_response(read_timeout)

    def pause_reading(self) -> None:
        self._conn.pause_reading()

    def resume_reading(self) -> None:
        self._conn.resume_reading()

    def release(self) -> None:
        self._attempt.end()
        self._conn.release()

    def close(self) -> None:
        self._attempt.end()
        self._conn.close()
