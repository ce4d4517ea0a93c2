"""Requests over HTTP/2 that an operator wants to look into: the ones that carry the trace key.

The law: as in http/tracing.py; a trace is that of one stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.exchange.opening import open_exchange
from data_plane.h2.client_stream import ClientStream
from data_plane.h2.downstream import H2ClientConnection
from data_plane.http.tracing import Trace

if TYPE_CHECKING:
    from data_plane.exchange.exchange import Exchange
    from data_plane.exchange.messages import RequestHead
    from data_plane.http.listener import Gateway
    from data_plane.http.tracing import Tracer


class TracingStream(ClientStream):
    """`trace` is None for a request that nobody looks into."""

    __slots__ = ("trace",)
    trace: Trace | None

    def send(self, data: bytes) -> None:
        super().send(data if self.trace is None else self.trace.marked(data))

    def finish(self, data: bytes, keep_alive: bool) -> None:
        trace = self.trace
        if trace is not None:
            data = trace.marked(data)
            self._let_go()
        super().finish(data, keep_alive)

    def cut(self, hard: bool) -> None:
        self._let_go()
        super().cut(hard)

    def gone(self) -> None:
        super().gone()
        self._let_go()

    def _let_go(self) -> None:
        """The exchange tells its plugins of the end after it told us."""
        trace, self.trace = self.trace, None
        if trace is not None:
            self._connection.later(trace.end)


class TracingH2ClientConnection(H2ClientConnection):
    """In a worker that has a trace key."""

    def __init__(self, gateway: Gateway, tracer: Tracer) -> None:
        super().__init__(gateway)
        self._tracer = tracer

    def _stream(self, stream_id: int, request_done: bool) -> ClientStream:
        stream = TracingStream(self, stream_id, request_done, self.now())
        stream.trace = None
        return stream

    def _open(self, stream: ClientStream, request: RequestHead) -> Exchange:
        if not isinstance(stream, TracingStream) or not self._tracer.admits(getattr(request.fields, "trace", None)):
            return super()._open(stream, request)
        trace = stream.trace = Trace(self._tracer, self._gateway, request, stream)
        return open_exchange(trace.serving, stream, request)
