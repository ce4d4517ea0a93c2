"""What an etcd URL says, and one connection to one of its endpoints.

The law: a connection is open and logged in before anyone has it, and every call on it is bounded in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc
from aetcd import rpc
from grpc.aio import AioRpcError, Channel

from shared.store.contract import StoreUnavailable
from shared.store.etcd_wire import Message, Stub, contract_error

CONNECT_SECONDS: Final = 1.5

_OPTIONS: Final = (
    # A list page has no size limit of its own: 500 values of up to 1.5 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A new connection is a new connection, not a shared one that may be the dead one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # etcd closes connections that ping more often than every 5 s. A watch finds a silent server sooner by itself.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
)


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM bytes; without `ca`, the roots that gRPC brings."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class EtcdTarget:
    endpoints: tuple[str, ...]
    login: Login | None = None
    tls: Tls | None = None


class Connection:
    """An open and logged-in channel."""

    __slots__ = ("_channel", "_login", "endpoint", "kv", "lease", "maintenance", "metadata", "watch")

    def __init__(self, target: EtcdTarget, endpoint: str) -> None:
        self.endpoint = endpoint
        self._login = target.login
        self._channel = _channel(target.tls, endpoint)
        self.kv = rpc.KVStub(self._channel)
        self.lease = rpc.LeaseStub(self._channel)
        self.watch = rpc.WatchStub(self._channel)
        self.maintenance = rpc.MaintenanceStub(self._channel)
        self.metadata: tuple[tuple[str, str], ...] = ()

    @classmethod
    async def dial(cls, target: EtcdTarget, endpoint: str) -> Connection:
        """Raises StoreUnavailable when the endpoint does not answer, or refuses the login."""
        connection = cls(target, endpoint)
        try:
            await connection._wait_until_ready()
            await connection.log_in()
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def ready(self) -> bool:
        return bool(self._channel.get_state() == grpc.ChannelConnectivity.READY)

    async def call(self, method: Stub, request: Message, seconds: float) -> Message:
        """One unary call, once."""
        try:
            return await method(request, timeout=seconds, metadata=self.metadata)
        except AioRpcError as error:
            raise contract_error(error, self.endpoint) from error

    async def log_in(self) -> None:
        if self._login is None:
            return
        request = rpc.AuthenticateRequest(name=self._login.user, password=self._login.password)
        try:
            reply = await rpc.AuthStub(self._channel).Authenticate(request, timeout=CONNECT_SECONDS)
        except AioRpcError as error:
            # A login is no mistake where none is asked for.
            if "authentication is not enabled" in str(error.details()):
                return
            raise contract_error(error, self.endpoint) from error
        self.metadata = (("token", reply.token),)

    async def close(self, grace_seconds: float | None = None) -> None:
        await self._channel.close(grace_seconds)

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while (state := self._channel.get_state(try_to_connect=True)) != grpc.ChannelConnectivity.READY:
                    if state == grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise StoreUnavailable(
                            f"etcd at {self.endpoint}: no connection (refused, unreachable, or TLS that does not match)"
                        )
                    await self._channel.wait_for_state_change(state)
        except TimeoutError:
            raise StoreUnavailable(f"etcd at {self.endpoint}: no answer within {CONNECT_SECONDS} s") from None


def _channel(tls: Tls | None, endpoint: str) -> Channel:
    if tls is None:
        return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
    return grpc.aio.secure_channel(endpoint, credentials, options=_OPTIONS)


Method = Callable[[Connection], Stub]
