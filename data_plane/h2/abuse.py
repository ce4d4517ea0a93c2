"""How much a peer may ask for that brings nothing: one account for a connection, one price list.

The law: a frame that makes this side work and carries no request, answer or body costs; what moves a request forward earns.
Who is out of credit is told ENHANCE_YOUR_CALM. An account is full at the beginning and fills by time, so a client that
behaves never comes near its end, and one that floods ends within a few hundred frames.

A client may cancel: 200 requests at once, 20 a second for ever, and one more for each that it lets end (CVE-2023-44487).
"""

from __future__ import annotations

from h2.errors import ErrorCodes

CREDIT = 1000.0
CREDIT_PER_SECOND = 100.0

# By frame type (RFC 9113 section 6). gRPC clients send a PING with each burst of data to measure the path, and two
# WINDOW_UPDATEs for 32 KiB of it: what they cost, `SENT` and `RECEIVED` give back.
_DATA, _PRIORITY, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 2, 3, 4, 6, 8
_ACK = _END_STREAM = 0x1
PRICES = {_PRIORITY: 1.0, _RST_STREAM: 5.0, _SETTINGS: 20.0, _PING: 5.0, _WINDOW_UPDATE: 1.0}
# What is not known must be ignored (RFC 9113 5.5), but is of no use either.
UNKNOWN_PRICE = 2.0
EMPTY_DATA_PRICE = 5.0

# That is no request: more than its answer and the frame of that earn.
REFUSAL_PRICE = 15.0

# A request that was answered, and a DATA frame in either direction.
ANSWERED = 5.0
SENT = 4.0
RECEIVED = 2.0


class OutOfPatience(Exception):
    code = ErrorCodes.ENHANCE_YOUR_CALM


class Patience:
    __slots__ = ("_credit", "_since")

    def __init__(self, now: float) -> None:
        self._credit = CREDIT
        self._since = now

    def __repr__(self) -> str:
        return f"<Patience {self._credit:.0f}>"

    def spend(self, kind: int, flags: int, length: int, now: float) -> None:
        """For a frame's header. Raises OutOfPatience."""
        if kind == _DATA:
            if length or flags & _END_STREAM:
                self.earn(RECEIVED)
                return
            price = EMPTY_DATA_PRICE
        elif flags & _ACK and kind in (_SETTINGS, _PING):
            # Of what this side has sent; any others the protocol's machine or the price list of the next frame catches.
            price = 1.0
        else:
            price = PRICES.get(kind, UNKNOWN_PRICE)
        self.charge(now, price)

    def charge(self, now: float, price: float = PRICES[_RST_STREAM]) -> None:
        """For a stream that the client's fault has ended (CVE-2025-8671), or for something else. Raises OutOfPatience."""
        self._credit -= price
        if self._credit < 0:
            self._credit = min(CREDIT, self._credit + (now - self._since) * CREDIT_PER_SECOND)
            self._since = now
            if self._credit < 0:
                raise OutOfPatience("too many frames that bring nothing")

    def earn(self, credit: float) -> None:
        self._credit = min(CREDIT, self._credit + credit)
