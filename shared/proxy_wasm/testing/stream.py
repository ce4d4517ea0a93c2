"""A request that was sent to a plugin, as a test looks at it."""

from __future__ import annotations

from shared.proxy_wasm.testing.course import Course
from shared.proxy_wasm.testing.messages import Request, Response


class Missing(AssertionError):
    """A test looked at a message that does not exist; the text says why it does not."""


class Stream(Course):
    """What became of a request: `forwarded` is what the upstream got, `response` what the client got. Both raise Missing when
    there is none (`was_forwarded` and `has_response` ask). `local_reply` is what the plugin sent instead, or None. `closed`
    is true when the plugin reset the stream, `failure` what the VM died of meanwhile (the client then gets 503).
    """

    @property
    def was_forwarded(self) -> bool:
        return self._forwarded is not None

    @property
    def forwarded(self) -> Request:
        if self._forwarded is None:
            raise Missing(f"the upstream got no request: {self._state}")
        return self._forwarded

    @property
    def has_response(self) -> bool:
        return self._response is not None

    @property
    def response(self) -> Response:
        if self._response is None:
            raise Missing(f"the client got no response: {self._state}")
        return self._response

    @property
    def _state(self) -> str:
        if self.failure is not None:
            return f"the plugin failed, {self.failure}"
        if self.paused:
            return f"the {self.paused} waits in the plugin"
        if self.closed:
            return "the plugin closed the stream"
        if self.local_reply is not None:
            return "the plugin sent a local response"
        return "it has ended" if self.ended else "it goes on"

    @property
    def context_id(self) -> int:
        return self._context.id

    @property
    def paused(self) -> str:
        """`request` or `response`: what waits in the plugin; empty when nothing does."""
        for way, name in zip(self._ways, ("request", "response"), strict=True):
            if way.waits:
                return name
        return ""

    def __repr__(self) -> str:
        status = self._response.status if self._response is not None else "no response"
        return f"<Stream {self.context_id}: {status}, {self._state}>"
