"""What a plugin's callbacks leave behind for whoever drives them."""

from __future__ import annotations

from dataclasses import dataclass

from shared.proxy_wasm.pairs import Pairs


@dataclass(frozen=True, slots=True)
class SentReply:
    """A local response as the plugin sent it; every field name and value is valid, and none is a pseudo-header.
    `grpc_status` only for gRPC requests."""

    status: int
    body: bytes
    fields: Pairs
    details: str
    grpc_status: int | None


class Outcome:
    """What a phase left to be done when it is not plain `Continue`. `effects` are bits of abi.Effect; `data` is a head or
    a body, None when unchanged.
    """

    __slots__ = ("action", "data", "effects", "no_room", "reply")

    def __init__(
        self,
        action: int,
        effects: int,
        data: bytes | None = None,
        reply: SentReply | None = None,
        no_room: bool = False,
    ) -> None:
        self.action = action
        self.effects = effects
        self.data = data
        self.reply = reply
        self.no_room = no_room

    @property
    def paused(self) -> bool:
        return self.action != 0
