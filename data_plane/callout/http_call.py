"""One HTTP call of a plugin: an exchange's half towards an upstream, with the plugin in the place of the client.

The law: nodes, connections and repetitions are as for a client's request (exchange/sending.py). The call ends once: with the
whole response, or with a reason why there is none; nothing is told before the host call that made it has returned.

| state      | event                                   | what follows                                      | next       |
|------------|-----------------------------------------|---------------------------------------------------|------------|
| STARTING   | `begin`                                 | an idle connection gets it, or one is opened      | WAITING    |
| WAITING    | `upstream_lost`, safe to repeat         | it goes out on a new connection                   | CONNECTING |
| RESPONDING | `upstream_body`, the last               | the connection is released, the plugin is told    | DONE       |
| any        | no connection, loss, too much, too late | the upstream is dropped, the plugin told: failed  | DONE       |
| any        | `cancel`                                | the upstream is dropped                           | DONE       |
| any        | `abandon`                               | the same, and the plugin is told soon: failed     | DONE       |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from data_plane.callout.http_message import WholeRequest, response_fields, trailer_fields
from data_plane.exchange.messages import RequestHead, ResponseHead
from data_plane.exchange.sending import DONE, RESPONDING, Sending
from shared.proxy_wasm.failures import VmFailed

if TYPE_CHECKING:
    from data_plane.config.snapshot import Route
    from data_plane.exchange.ports import ClientPort, Serving
    from shared.proxy_wasm.callouts import PendingCall
    from shared.proxy_wasm.pairs import Pairs

# What a plugin reads of a failure with proxy_get_status.
REASONS = {
    "no_nodes": b"no node of the upstream may take traffic",
    "upstream_connect_failed": b"cannot connect",
    "upstream_connect_timeout": b"connecting timed out",
    "upstream_closed": b"reset",
    "upstream_bad_response": b"not a valid response",
    "upstream_send_timeout": b"sending timed out",
    "upstream_read_timeout": b"receiving timed out",
    "upstream_retry_timeout": b"no time left for another node",
    "timeout": b"timed out",
    "too_large": b"the response is larger than the plugin holds",
    "stream_ended": b"the stream has ended",
}

Failed = Callable[[VmFailed], None]


class HttpCall(Sending):
    """`failed` is told when the plugin's VM does not survive a callback about the call."""

    @property
    def keeps_trailers(self) -> bool:
        return True

    __slots__ = ("_call", "_failed", "_limit", "_loop", "_pieces", "_response", "_size", "_timer", "_trailers")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        serving: Serving,
        call: PendingCall,
        request: tuple[RequestHead, WholeRequest],
        route: Route,
        limit: int,
        failed: Failed,
    ) -> None:
        head, outgoing = request
        # No client is ever asked for anything: the request is complete.
        super().__init__(serving, cast("ClientPort", None), head, route)
        self.request_done = True
        self._outgoing = outgoing
        self._loop = loop
        self._call = call
        self._limit = limit
        self._failed = failed
        self._timer: asyncio.TimerHandle | None = None
        self._response: ResponseHead | None = None
        self._trailers: Pairs = ()
        self._pieces: list[bytes] = []
        self._size = 0

    def begin(self, seconds: float) -> None:
        if seconds:
            self._timer = self._loop.call_later(seconds, self._fail, "timeout")
        self._send(self.head.open)

    # The plugin's hand on it.

    def cancel(self) -> None:
        self._end()

    def abandon(self) -> None:
        if self.state != DONE:
            self._fail("stream_ended")

    # What the upstream does.

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        self.state = RESPONDING
        self._response = response
        self.upstream_body(body, eos)

    def upstream_body(self, data: bytes, eos: bool) -> None:
        self._size += len(data)
        if self._size > self._limit:
            self._fail("too_large")
            return
        self._pieces.append(data)
        if eos and self._response is not None:
            self._let_go()
            self._end()
            fields = response_fields(self._response)
            self._tell(lambda: self._call.respond(fields, b"".join(self._pieces), self._trailers))

    def upstream_trailers(self, lines: bytes) -> None:
        self._trailers = trailer_fields(lines)

    def upstream_lost(self, kind: str) -> None:
        conn = self.conn
        self.conn = None
        problem = self._recover(conn, kind)
        if problem and self.state != DONE:
            self._fail(problem)

    # The end.

    def _fail(self, kind: str) -> None:
        self._end()
        self._loop.call_soon(self._tell, lambda: self._call.fail(REASONS.get(kind, b"reset")))

    def _end(self) -> None:
        self.state = DONE
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_upstream()

    def _tell(self, event: Callable[[], None]) -> None:
        try:
            event()
        except VmFailed as failure:
            self._failed(failure)
