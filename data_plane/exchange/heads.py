"""An exchange without a request body whose plugins look at heads and let them go on: what most plugins do.

The law: it has no chain as long as that holds. The first answer of the plugin that is anything else (a pause, a reply, a
failure), and the first reply of the gateway itself, let a chain take over, which begins with that answer; from then on every
event is FilteredExchange's. A chain and its bookkeeping cost about 10 us, as much as all of a plain exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.exchange.exchange import Exchange
from data_plane.exchange.filtered import FilteredExchange
from data_plane.exchange.messages import RequestHead, ResponseHead
from data_plane.exchange.sending import DONE, RESPONDING, Sending

if TYPE_CHECKING:
    from data_plane.config.snapshot import Binding, Route
    from data_plane.exchange.ports import ClientPort, Serving
    from data_plane.plugins.interface import PluginStream


class HeadExchange(FilteredExchange):
    """`_stream` is the plugin's stream; None once there is a chain, and once the exchange has ended."""

    __slots__ = ("_stream",)

    def __init__(
        self,
        serving: Serving,
        client: ClientPort,
        head: RequestHead,
        route: Route | None,
        bindings: tuple[Binding, ...],
    ) -> None:
        Sending.__init__(self, serving, client, head, route)
        self.request_bytes = 0
        self.response_bytes = 0
        self.start_time_ns = client.unix_time_ns()
        self._settled = False
        self._stream: PluginStream | None = serving.runtime.open_stream(bindings, self)
        if self._stream is None:
            self._use_chain(serving.runtime.open_chain(bindings, self, self))

    def _take_over(self, stream: PluginStream) -> None:
        self._stream = None
        self._use_chain(self.serving.runtime.take_over(stream, self))

    def start(self, body: bytes, eos: bool) -> None:
        stream = self._stream
        if stream is not None:
            head = self.head
            opened = head.open
            passed = stream.request_head(opened, head.fields.framing, True)
            if passed is not None:
                self.request_done = True
                self._send(passed or opened)
                return
            self._take_over(stream)
        super().start(body, eos)

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        stream = self._stream
        if stream is not None:
            head, status = response.open, response.status
            self.response_bytes = len(body)
            self.state = RESPONDING
            if eos:
                if self.conn is not None:
                    self.conn.release()
                    self.conn = None
                passed = stream.last_response(head, response.framing, not body)
            else:
                passed = stream.response_head(head, response.framing, False)
            if passed is not None:
                if passed:
                    head, status = passed, int(passed[9:12])
                if eos:
                    # The plugin has heard of its end.
                    self._stream = None
                    self._settled = True
                    self._whole_response(head, status, response.length, response.framing, body)
                else:
                    self._begin_response(head, status, response.length, response.framing, body, False)
                return
            self._take_over(stream)
        super().upstream_response(response, body, eos)

    @property
    def keeps_trailers(self) -> bool:
        if self._stream is not None or self._settled:
            return self.head.fields.minor_version == 2
        return super().keeps_trailers

    def upstream_trailers(self, lines: bytes) -> None:
        """The plugin takes none."""
        if self._stream is not None or self._settled:
            Exchange.upstream_trailers(self, lines)
        else:
            super().upstream_trailers(lines)

    def upstream_body(self, data: bytes, eos: bool) -> None:
        if self._stream is None:
            super().upstream_body(data, eos)
        else:
            self.response_bytes += len(data)
            Exchange.upstream_body(self, data, eos)

    def _fail(self, kind: str) -> None:
        if self._stream is not None:
            self._take_over(self._stream)
        super()._fail(kind)

    def held(self) -> object:
        return None if self._stream is not None or self._settled else super().held()

    def _request_backlog(self) -> int:
        return 0 if self._stream is not None or self._settled else super()._request_backlog()

    def _response_backlog(self) -> int:
        return 0 if self._stream is not None or self._settled else super()._response_backlog()

    def _finish(self, data: bytes, keep_alive: bool) -> None:
        if self._settled:
            # As the plain exchange: nothing of the plugin is left.
            self.state = DONE
            if self.conn is not None:
                self._drop_upstream()
            self.client.finish(data, keep_alive)
        else:
            super()._finish(data, keep_alive)

    def _settle(self) -> None:
        stream = self._stream
        if stream is None:
            super()._settle()
        elif not self._settled:
            self._settled = True
            self._stream = None
            self.serving.runtime.finish(stream)
