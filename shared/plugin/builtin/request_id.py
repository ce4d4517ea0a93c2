"""request-id: a name for each request, for its upstream and for the client.

The law: a name that the client has sent stays, if it is of a length that a log can take; else it gets one of ours.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from shared.plugin.fields import HeaderName
from shared.plugin.plugin import Phase, Plugin
from shared.plugin.request import Request, Response
from shared.schema.common import Maybe, Spec

LONGEST = 256
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NANO = "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# KSUID counts seconds from here.
_KSUID_EPOCH = 1_400_000_000
_random = random.SystemRandom()


class RangeSpec(Spec):
    char_set: Annotated[str, Field(min_length=6, max_length=256, pattern=r"^[!-~]+$")] = (
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    )
    length: Annotated[int, Field(ge=6, le=LONGEST)] = 16


class RequestIdConfig(Spec):
    header_name: HeaderName = "X-Request-Id"
    include_in_response: bool = True
    algorithm: Literal["uuid", "nanoid", "range_id", "ksuid", "uuidv7"] = "uuid"
    range_id: Maybe[RangeSpec] = None


class RequestId(Plugin[RequestIdConfig]):
    name = "request-id"
    priority = 12015
    Config = RequestIdConfig

    def __init__(self, config: RequestIdConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._make = _makers(config.range_id or RangeSpec())[config.algorithm]

    def phases(self) -> frozenset[Phase]:
        return frozenset({"rewrite", "header_filter"}) if self.config.include_in_response else frozenset({"rewrite"})

    def rewrite(self, request: Request) -> None:
        name = self.config.header_name
        known = request.header(name)
        if known is None or not 0 < len(known) <= LONGEST:
            known = self._make()
            request.set_header(name, known)
        if self.config.include_in_response:
            request.context[self] = known

    def header_filter(self, request: Request, response: Response) -> None:
        known = request.context.get(self)
        if known is not None and response.header(self.config.header_name) is None:
            response.add_header(self.config.header_name, known)


def uuid4() -> str:
    data = bytearray(os.urandom(16))
    data[6] = data[6] & 0x0F | 0x40
    return _uuid(data)


def uuid7() -> str:
    """RFC 9562, section 5.7: milliseconds first, so that names sort by time."""
    data = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    data[6] = data[6] & 0x0F | 0x70
    return _uuid(data)


def _uuid(data: bytearray) -> str:
    data[8] = data[8] & 0x3F | 0x80
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def nanoid() -> str:
    return "".join([_NANO[byte & 63] for byte in os.urandom(21)])


def ksuid() -> str:
    """Four bytes of seconds, sixteen of chance, in base 62."""
    number = int.from_bytes((int(time.time()) - _KSUID_EPOCH).to_bytes(4, "big") + os.urandom(16), "big")
    digits = []
    for _ in range(27):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def _makers(of: RangeSpec) -> dict[str, Callable[[], str]]:
    def range_id() -> str:
        return "".join(_random.choices(of.char_set, k=of.length))

    return {"uuid": uuid4, "nanoid": nanoid, "range_id": range_id, "ksuid": ksuid, "uuidv7": uuid7}
