"""A gRPC server of grpcio for tests: service `test.Echo`, whose messages are plain bytes.

The law: what a method does is in its name; what it saw is in `seen`, as `METHOD KEY=VALUE...` of the metadata that tests send.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from tests.support.gateway import HOST

Handler = Callable[..., Any]


class EchoServer:
    """Any method of any service is answered by the method of this class with its name in lower case."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.seen: list[str] = []
        self.go = threading.Event()
        self.streams_begun = threading.Semaphore(0)
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        if credentials is None:
            self.port: int = self._server.add_insecure_port(f"{HOST}:0")
        else:
            self.port = self._server.add_secure_port(f"{HOST}:0", credentials)
        self._server.start()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def stop(self, grace: float | None = None) -> threading.Event:
        event: threading.Event = self._server.stop(grace)
        return event

    def wait_for(self, line: str, seconds: float = 5.0) -> None:
        """Until this is among what was seen."""
        deadline = time.monotonic() + seconds
        while line not in self.seen:
            assert time.monotonic() < deadline, f"{line!r} was not seen, but {self.seen}"
            time.sleep(0.005)

    def note(self, method: str, context: Any) -> None:  # noqa: ANN401 - grpcio has no types
        fields = [f"{key}={value}" for key, value in context.invocation_metadata() if key.startswith("x-")]
        limited = context.time_remaining()
        self.seen.append(" ".join([method, *fields, *(["limited"] if limited and limited < 1000 else [])]))


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    def __init__(self, server: EchoServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:  # noqa: ANN401
        name = details.method.rpartition("/")[2]
        unary = {"Upper": upper, "Deny": deny, "Trailing": trailing, "Wait": wait, "Huge": huge}.get(name)
        if unary is not None:
            return grpc.unary_unary_rpc_method_handler(lambda data, context: unary(self._server, data, context))
        streams = {"Chat": chat, "Count": count, "Broken": broken}.get(name)
        if streams is not None:
            return grpc.stream_stream_rpc_method_handler(lambda messages, context: streams(self._server, messages, context))
        return None


def upper(server: EchoServer, data: bytes, context: Any) -> bytes:  # noqa: ANN401
    server.note("Upper", context)
    return data.upper()


def deny(server: EchoServer, data: bytes, context: Any) -> bytes:  # noqa: ANN401
    server.note("Deny", context)
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "no entry: 50% über")
    return b""


def trailing(server: EchoServer, data: bytes, context: Any) -> bytes:  # noqa: ANN401
    context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-final", "2"),))
    return b"ok"


def wait(server: EchoServer, data: bytes, context: Any) -> bytes:  # noqa: ANN401
    server.note("Wait", context)
    ended = threading.Event()
    context.add_callback(ended.set)
    server.streams_begun.release()
    while not (server.go.wait(0.01) or ended.is_set()):
        pass
    server.seen.append("cancelled" if ended.is_set() else "went on")
    return data


def huge(server: EchoServer, data: bytes, context: Any) -> bytes:  # noqa: ANN401
    return b"x" * int(data)


def chat(server: EchoServer, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:  # noqa: ANN401
    """Answers each message until there are no more."""
    server.note("Chat", context)
    if not context.add_callback(lambda: server.seen.append("Chat ended")):
        server.seen.append("Chat ended")
    context.send_initial_metadata((("x-initial", "1"),))
    for message in messages:
        yield message.upper()
    context.set_trailing_metadata((("x-final", "2"),))


def count(server: EchoServer, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:  # noqa: ANN401
    """Counts down from the first message, whatever else comes."""
    for number in range(int(next(messages)), 0, -1):
        yield str(number).encode()


def broken(server: EchoServer, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:  # noqa: ANN401
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "gone")


@contextmanager
def echo_server(credentials: grpc.ServerCredentials | None = None) -> Iterator[EchoServer]:
    server = EchoServer(credentials)
    try:
        yield server
    finally:
        server.go.set()
        server.stop().wait(10)
