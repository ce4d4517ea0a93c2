"""Bodies and trailers on their way through a chain's links.

The law: a link's plugin sees each piece once, or again with the next one as long as it holds it; what it lets go comes to the
next link. Trailers come behind the last piece, which then does not end the message; those that a plugin made in its last piece
are the next link's as if they had come with the message.
"""

from __future__ import annotations

from data_plane.plugins.interface import ChainSink, LocalReply
from data_plane.plugins.link import Link, Stop
from data_plane.plugins.replies import BODY_TOO_LARGE, HEAD_TOO_LARGE
from shared.proxy_wasm.abi import Direction, Effect
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome

_GOES_ON = Outcome(0, 0)


class Bodies:
    """Base of the chain."""

    request_backlog = 0
    response_backlog = 0
    _over: tuple[bool, bool] = (False, False)
    _links: list[Link]
    _response_links: list[Link]
    _sink: ChainSink

    def _ended(self, link: Link, outcome: Outcome) -> bool:
        """The outcome ends the stream's way here: a reset, a local reply, or a head that cannot be sent."""
        raise NotImplementedError

    def _resume_told(self, link: Link, outcome: Outcome) -> None:
        raise NotImplementedError

    def _reply(self, reply: LocalReply) -> None:
        raise NotImplementedError

    def _failed(self, link: Link, failure: VmFailed, direction: Direction) -> bool:
        """True when the current piece of this direction goes on to the next link."""
        raise NotImplementedError

    def _body(self, direction: Direction, position: int, data: bytes, eos: bool) -> None:
        if self._over[direction]:
            return
        for link in (self._response_links if direction else self._links)[position:]:
            passed = self._body_through(link, direction, data, eos)
            if passed is None:
                return
            data = passed
        if direction:
            self._sink.forward_response_body(data, eos)
        else:
            self._sink.forward_request_body(data, eos)

    def _body_through(self, link: Link, direction: Direction, data: bytes, eos: bool) -> bytes | None:
        """The bytes that go on now, or None."""
        stop, context = link.stops[direction], link.context
        if stop is not None and stop.head is not None:
            stop.pieces.append(data)
            stop.size += len(data)
            stop.eos = eos
            self._count(direction, len(data))
            return None
        if context is None or not (context.vm.reads_response_body if direction else context.vm.reads_request_body):
            return data
        try:
            outcome = context.body(direction, data, eos)
        except VmFailed as failure:
            if stop is None:
                return data if self._failed(link, failure, direction) else None
            stop.pieces.append(data)
            stop.eos = eos
            self._failed(link, failure, direction)
            return None
        if outcome is not None:
            return self._body_outcome(link, direction, outcome, data, eos)
        if stop is not None:
            link.stop(direction, None)
        return data

    def _body_outcome(self, link: Link, direction: Direction, outcome: Outcome, data: bytes, eos: bool) -> bytes | None:
        """The bytes that go on now, or None."""
        if outcome.no_room:
            self._reply(BODY_TOO_LARGE[direction])
            return None
        if self._ended(link, outcome):
            return None
        if outcome.paused:
            stop = link.stops[direction] or Stop(None, b"", eos)
            link.stop(direction, stop)
            stop.eos = eos
            if link.policy == "fail_open":
                stop.pieces.append(data)
        else:
            link.stop(direction, None)
        self._resume_told(link, outcome)
        if outcome.paused or self._over[direction]:
            return None
        passed = data if outcome.data is None else outcome.data
        if not outcome.effects & Effect.TRAILERS:
            return passed
        self._last_piece(link, direction, passed, None)
        return None

    def _trailers(self, direction: Direction, position: int, lines: bytes) -> None:
        if self._over[direction]:
            return
        for link in (self._response_links if direction else self._links)[position:]:
            passed = self._trailers_through(link, direction, lines)
            if passed is None:
                return
            lines = passed
        if direction:
            self._sink.forward_response_trailers(lines)
        else:
            self._sink.forward_request_trailers(lines)

    def _trailers_through(self, link: Link, direction: Direction, lines: bytes) -> bytes | None:
        """The lines that go on now, or None. What the link holds of the body goes on before them."""
        stop, context = link.stops[direction], link.context
        if stop is not None and stop.head is not None:
            stop.trailers = lines
            return None
        if context is None:
            return lines
        try:
            outcome = context.trailers(direction, lines)
        except VmFailed as failure:
            if stop is not None:
                stop.trailers = lines
            return lines if self._failed(link, failure, direction) and stop is None else None
        if outcome is None:
            outcome = _GOES_ON
        if outcome.no_room:
            self._reply(HEAD_TOO_LARGE[direction])
        elif not self._ended(link, outcome):
            return self._trailers_outcome(link, direction, outcome, lines)
        return None

    def _trailers_outcome(self, link: Link, direction: Direction, outcome: Outcome, lines: bytes) -> bytes | None:
        stop = link.stops[direction]
        if outcome.paused:
            stop = stop or Stop(None, b"", False)
            stop.trailers = lines
            link.stop(direction, stop)
            self._resume_told(link, outcome)
            return None
        self._resume_told(link, outcome)
        lines = lines if outcome.data is None else outcome.data
        if stop is None:
            return lines
        self._last_piece(link, direction, self._let_go(link, direction), lines)
        return None

    def _let_go(self, link: Link, direction: Direction) -> bytes:
        """What the plugin holds of the body."""
        link.stop(direction, None)
        return b"" if link.context is None else link.context.take_body(direction)

    def _last_piece(self, link: Link, direction: Direction, data: bytes, lines: bytes | None) -> None:
        """The end of what the link passes on: data, and trailers, if some have come or it has made some."""
        outcome = None if link.context is None else link.context.take_trailers(direction)
        if outcome is not None and outcome.data is not None:
            lines = outcome.data
        after = self._after(link, direction)
        if data or lines is None:
            self._body(direction, after, data, lines is None)
        if lines is not None:
            self._trailers(direction, after, lines)

    def _count(self, direction: Direction, size: int) -> None:
        if direction:
            self.response_backlog += size
        else:
            self.request_backlog += size

    def _after(self, link: Link, direction: Direction) -> int:
        return (self._response_links if direction else self._links).index(link) + 1
