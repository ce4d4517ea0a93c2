"""An exchange whose messages go through plugins.

The law: what arrives is told to the chain, and only what the chain forwards has consequences; a reply of the gateway itself is
a response like any other and goes through the chain too, unless the chain has already seen one. The chain is finished exactly
once, after its last call has returned.

In addition to the states of exchange.py: STARTING lasts until the chain forwards the request's head, and REPLYING is the time
in which a reply of a plugin or of the gateway is on its way through the chain, with the upstream dropped.

A response's head waits for the first piece of its body while a call of the chain lasts, so that both leave in one write, and
longer if a plugin reads the body: then its length is known at best with that piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mypy_extensions import mypyc_attr

from data_plane.exchange.framing import has_body, last_chunk, length_line
from data_plane.exchange.grpc import local_response
from data_plane.exchange.info import DescribedExchange
from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead
from data_plane.exchange.outgoing import Outgoing
from data_plane.exchange.ports import TrailingClient
from data_plane.exchange.replies import open_reply, reply_for
from data_plane.exchange.sending import DONE, REPLYING, RESPONDING, STARTING
from data_plane.exchange.trailing import TrailingChain

if TYPE_CHECKING:
    from data_plane.config.snapshot import Binding, Route
    from data_plane.exchange.ports import ClientPort, Serving
    from data_plane.plugins.interface import LocalReply, PluginChain


@mypyc_attr(allow_interpreted_subclasses=True)
class FilteredExchange(DescribedExchange):
    """The chain's sink as well."""

    __slots__ = (
        "_chain",
        "_depth",
        "_framing",
        "_head_is_all",
        "_held",
        "_responses",
        "_settled",
        "_status",
    )

    def __init__(
        self,
        serving: Serving,
        client: ClientPort,
        head: RequestHead,
        route: Route | None,
        bindings: tuple[Binding, ...],
    ) -> None:
        super().__init__(serving, client, head, route)
        self._settled = False
        self._use_chain(serving.runtime.open_chain(bindings, self, self))

    def _use_chain(self, chain: PluginChain) -> None:
        self._chain = chain
        self._depth = 0
        # The response that the chain was told last; its head as forwarded, while that waits.
        self._responses = 0
        self._framing = b""
        self._head_is_all = False
        self._held: bytes | None = None
        self._status = 0

    # Events, told to the chain.

    def start(self, body: bytes, eos: bool) -> None:
        self.request_done = eos
        self.request_bytes = len(body)
        head = self.head
        chain = self._chain
        head_is_all = eos and not body
        if not head_is_all:
            self._outgoing = Outgoing(head.fields.framing, chain.reads_request_body)
        self._depth += 1
        chain.request_head(head.open, head.fields.framing, head_is_all)
        if body and self.state < RESPONDING:
            chain.request_body(body, eos)
        self._leave()
        if not eos:
            self._regulate_request()
            self._answer_expectation(body)

    def request_body(self, data: bytes, eos: bool) -> None:
        self.request_done = eos
        if self.state > RESPONDING:
            return
        self.request_bytes += len(data)
        self._depth += 1
        self._chain.request_body(data, eos)
        self._leave()
        self._regulate_request()

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        self.state = RESPONDING
        if eos:
            self._let_go()
        self._respond(response.open, response.length, response.framing, body, eos)

    def upstream_body(self, data: bytes, eos: bool) -> None:
        if eos:
            self._let_go()
        if self.state == RESPONDING:
            self._depth += 1
            self._chain.response_body(data, eos)
            self._leave()
            self._regulate_response()

    @property
    def keeps_trailers(self) -> bool:
        return self._chain.reads_trailers or self.head.fields.minor_version == 2

    def request_trailers(self, lines: bytes) -> None:
        if not (self._chain.reads_trailers or self.head.fields.minor_version == 2):
            self.request_body(b"", True)
            return
        self.request_done = True
        if self.state > RESPONDING:
            return
        self._depth += 1
        self._chain.request_trailers(lines)
        self._leave()
        self._regulate_request()

    def upstream_trailers(self, lines: bytes) -> None:
        if lines:
            self._chain = cast("PluginChain", TrailingChain(self._chain, lines, 1 if self.state < RESPONDING else 0))

    # What the chain forwards.

    def find_route(self, head: bytes) -> None:
        self.route = self.serving.find_route(head, self.client)

    def change_method(self, method: bytes) -> None:
        """A native plugin: the upstream answers what it is asked, until `answer_to` says what the client has asked."""
        head = self.head
        self.head = RequestHead(method, head.path, head.open, head.fields)

    def answer_to(self, head: RequestHead) -> None:
        if self.state == RESPONDING and self.head.method == b"HEAD" != head.method:
            # The upstream's length is that of a body which it did not send.
            self._length, self._framing = 0, length_line(0)
        self.head = head

    def forward_request_head(self, head: bytes) -> None:
        if self.state == STARTING:
            self._send(head)

    def forward_request_body(self, data: bytes, eos: bool) -> None:
        self._forward_body(data, eos)

    def forward_request_trailers(self, lines: bytes) -> None:
        outgoing = self._outgoing
        if outgoing is not None and self.state <= RESPONDING:
            outgoing.end_with(lines)
            self._pump(outgoing)

    def forward_response_trailers(self, lines: bytes) -> None:
        """In HTTP/1 only chunks have room for them (RFC 9112, section 7.1.2)."""
        if self.state == DONE:
            return
        if self._held is not None:
            self._release_head(b"", False)
        if self._chunked:
            self._finish(last_chunk(lines), self._keep_alive)
        else:
            if self.head.fields.minor_version == 2:
                cast(TrailingClient, self.client).end_with(lines)
            self._continue_response(b"", True)

    def forward_response_head(self, head: bytes) -> None:
        if self.state == DONE:
            return
        self._held = head
        # A plugin may have written another status.
        self._status = int(head[9:12])
        if self._head_is_all:
            self._release_head(b"", True)
        elif not self._depth:
            # What a paused plugin held behind this head may now be in the plugin: nothing need follow here.
            self._regulate_response()
            if not self._chain.reads_response_body:
                self._release_head(b"", False)

    def forward_response_body(self, data: bytes, eos: bool) -> None:
        if self.state == DONE:
            return
        self.response_bytes += len(data)
        if self._held is not None:
            self._release_head(data, eos)
        else:
            self._continue_response(data if has_body(self.head.method, self._status) else b"", eos)
        if not self._depth:
            self._regulate_response()

    def local_reply(self, reply: LocalReply) -> None:
        if self.state == DONE:
            return
        if self._on_wire:
            self._cut()
        else:
            self._reply(open_reply(reply), reply.body)

    def abort(self, reason: str) -> None:
        if self.state != DONE:
            self._cut()

    # Towards the client.

    def _respond(self, head: bytes, length: int, framing: bytes, body: bytes, eos: bool) -> None:
        """Tell the chain a response. A plugin may put its own in place of it at any moment."""
        self._length = length
        self._framing = framing
        self._held = None
        self._head_is_all = eos and not body
        self._responses += 1
        number = self._responses
        self._depth += 1
        self._chain.response_head(head, framing, self._head_is_all)
        if body and number == self._responses and self.state != DONE:
            self._chain.response_body(body, eos)
        self._leave()
        self._regulate_response()

    def _release_head(self, data: bytes, eos: bool) -> None:
        """Let the held head go, with what of the body is here: then its framing is decided."""
        head = self._held
        if head is None:
            return
        self._held = None
        length = self._length
        framing = self._framing
        if self._chain.reads_response_body:
            # What was declared promises nothing about what is sent; with no body at all there is nothing to declare.
            length = len(data) if eos else CHUNKED
            if not has_body(self.head.method, self._status):
                length = UNTIL_CLOSE
            framing = length_line(length) if length >= 0 else b""
        self._begin_response(head, self._status, length, framing, data, eos)

    def _fail(self, kind: str) -> None:
        if self.state < RESPONDING:
            reply = reply_for(kind)
            self._reply(reply.head, reply.body)
        else:
            super()._fail(kind)

    def _reply(self, head: bytes, body: bytes) -> None:
        self._drop_upstream()
        self.state = REPLYING
        if self.head.fields.minor_version == 2:
            cast(TrailingClient, self.client).end_with(b"")
        head, length, framing, body = local_response(self.head, head, body)
        self._respond(head, length, framing, body, True)

    def held(self) -> object:
        return (self.state, self.request_bytes, self.response_bytes) if self._chain.holding else None

    def _request_backlog(self) -> int:
        return self._chain.request_backlog

    def _response_backlog(self) -> int:
        return self._chain.response_backlog

    # The end.

    def _leave(self) -> None:
        """A call of the chain has returned."""
        self._depth -= 1
        if self._depth:
            return
        if self.state == DONE:
            self._settle()
        elif self._held is not None and not self._chain.reads_response_body:
            self._release_head(b"", False)

    def _finish(self, data: bytes, keep_alive: bool) -> None:
        super()._finish(data, keep_alive)
        self._settle()

    def _end(self) -> None:
        super()._end()
        self._settle()

    def _settle(self) -> None:
        if not self._settled and not self._depth:
            self._settled = True
            self._chain.finish()
