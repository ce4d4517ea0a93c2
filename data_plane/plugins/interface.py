"""The seam between an exchange and the plugins of its route.

The law: the chain is told what arrives and tells the exchange what may go on; neither waits. `PluginChain` methods may call
the sink's methods before they return (nothing paused) or much later (a plugin paused). Every message goes through in order:
one head, then body pieces, the last of them (or the head itself) with `eos` unless trailers follow.

An *open head* is a start line and field lines, each ended by CR LF, without framing fields (content-length,
transfer-encoding, connection and the other hop-by-hop fields) and without the empty line. `framing` is the framing field line
that the message arrived with (also ended by CR LF, or empty): plugins see it, but the exchange alone decides what is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared.plugin.reply import Reply

if TYPE_CHECKING:
    from data_plane.config.snapshot import Binding, WasmPlugin
    from shared.proxy_wasm.callouts import Callouts
    from shared.proxy_wasm.failures import VmFailed


@dataclass(frozen=True, slots=True)
class LocalReply:
    """A reply made by a plugin: `fields` in order, names as given, already checked to be safe on a wire."""

    status: int
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    details: str = ""


class ChainSink(Protocol):
    """What the exchange does with the chain's results."""

    def find_route(self, head: bytes) -> None:
        """A plugin wants the route to be found anew, by the request's open head as plugins have left it. The plugins of the
        request stay those of the route that it had.
        """

    def forward_request_head(self, head: bytes) -> None:
        """An open head for the upstream, after every plugin."""

    def forward_request_body(self, data: bytes, eos: bool) -> None: ...

    def forward_request_trailers(self, lines: bytes) -> None:
        """Field lines, each ended by CR LF, in the place of the body's `eos`."""

    def forward_response_head(self, head: bytes) -> None:
        """An open head for the client (`HTTP/1.1 STATUS REASON` first), after every plugin."""

    def forward_response_body(self, data: bytes, eos: bool) -> None: ...

    def forward_response_trailers(self, lines: bytes) -> None: ...

    def local_reply(self, reply: LocalReply) -> None:
        """Instead of anything further from the upstream. The reply itself goes through `response_head`/`response_body`
        of this chain, so the sink builds an open head from it and hands it back. If a byte of a response has left already, the
        sink closes without completing it instead.
        """

    def abort(self, reason: str) -> None:
        """A plugin reset the stream: close without completing it."""


class StreamInfo(Protocol):
    """What plugins may ask about the exchange beyond its heads: the ABI's properties (reference names in parentheses)."""

    @property
    def client_address(self) -> tuple[str, int]:
        """(source.address, source.port)"""

    @property
    def local_address(self) -> tuple[str, int]:
        """(destination.address, destination.port)"""

    @property
    def connection_id(self) -> int: ...

    @property
    def protocol(self) -> str:
        """(request.protocol) `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`, as the client speaks it."""

    @property
    def upstream_address(self) -> tuple[str, int] | None: ...

    @property
    def start_time_ns(self) -> int:
        """(request.time) Unix time in nanoseconds."""

    @property
    def request_bytes(self) -> int:
        """(request.size) body bytes received so far."""

    @property
    def response_bytes(self) -> int:
        """(response.size) body bytes sent so far."""

    @property
    def route_name(self) -> str: ...


class PluginChain(Protocol):
    """All plugins of one request. Made for a request whose route has any; a request without plugins has no chain."""

    @property
    def reads_request_body(self) -> bool:
        """Some plugin takes body callbacks: the length that arrived promises nothing about what is forwarded."""

    @property
    def reads_response_body(self) -> bool: ...

    @property
    def reads_trailers(self) -> bool:
        """Some plugin takes trailers' callbacks: those of a response shall not be dropped."""

    @property
    def request_backlog(self) -> int:
        """Bytes held back by a paused plugin: the exchange stops reading the client above its high-water mark."""

    @property
    def response_backlog(self) -> int: ...

    @property
    def holding(self) -> bool:
        """A plugin has paused the request or the response."""

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> None: ...

    def request_body(self, data: bytes, eos: bool) -> None: ...

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> None: ...

    def response_body(self, data: bytes, eos: bool) -> None: ...

    def request_trailers(self, lines: bytes) -> None:
        """Field lines after the last piece of the body, which then had no `eos`."""

    def response_trailers(self, lines: bytes) -> None: ...

    def finish(self) -> None:
        """The stream is over, however it ended: on_done, on_log, on_delete, exactly once. No sink call follows."""


class PluginStream(Protocol):
    """One request in plugins that take no response bodies, without a chain."""

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        """The open head as the plugins pass it on, empty when unchanged. None when one did anything else: the runtime's
        `take_over` then makes the chain that goes on from there.
        """

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None: ...

    def last_response(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        """As `response_head`, of a response that is here in full: if it passes, that was the stream's end (as `finish`)."""


class CallProvider(Protocol):
    """Performs what plugins ask of other servers."""

    def callouts(self, plugin: WasmPlugin, failed: Callable[[VmFailed], None]) -> Callouts:
        """For one VM of the plugin; `failed` is told when it does not survive hearing of a call."""


Told = Callable[[Reply | None, BaseException | None], None]


class PluginRuntime(Protocol):
    """All plugins of a worker. `bindings` come from the snapshot, in the order of config/bindings.py."""

    def open_chain(self, bindings: tuple[Binding, ...], sink: ChainSink, info: StreamInfo) -> PluginChain: ...

    def open_stream(self, bindings: tuple[Binding, ...], info: StreamInfo) -> PluginStream | None:
        """None when only a chain will do: a plugin reads responses' bodies, or does not run yet."""

    def take_over(self, stream: PluginStream, sink: ChainSink) -> PluginChain:
        """The stream's plugin in a chain. Its next head event is one that the plugin has been asked already."""

    def finish(self, stream: PluginStream) -> None:
        """As `PluginChain.finish`, of a stream that no chain took over."""

    def wait(self, answer: Awaitable[Reply | None], told: Told) -> Callable[[], None]:
        """For a native plugin that must wait; what is returned ends the waiting, and then nothing is told."""

    def native_failed(self, plugin: str, error: BaseException) -> None:
        """A native plugin has raised: for the log."""
