"""csrf: a page of another site cannot send what a user did not mean to (a signed token as cookie and as header).

The law: a request that changes something carries a token that this gateway has signed, twice: in the cookie, which the browser
adds by itself, and in a header, which only a page of the same site can copy from it. Every response brings a fresh one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import time
from email.utils import formatdate
from typing import Annotated, ClassVar

from pydantic import Field

from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.schema.common import MAX_INT, Spec, Text

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# A token of ours has about 130 characters.
_LONGEST = 1024


class CsrfConfig(Spec):
    key: Text
    expires: Annotated[int, Field(ge=0, le=MAX_INT)] = 7200
    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")] = "apisix-csrf-token"


class Csrf(Plugin[CsrfConfig]):
    name = "csrf"
    priority = 2980
    Config = CsrfConfig
    encrypted: ClassVar[tuple[str, ...]] = ("key",)
    clock = staticmethod(time.time)

    def __init__(self, config: CsrfConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._key = config.key.encode()

    def access(self, request: Request) -> Reply | None:
        if request.method in _SAFE:
            return None
        problem = self._problem(request.header(self.config.name), request.cookie(self.config.name))
        return None if problem is None else Reply(401, {"error_msg": problem})

    def header_filter(self, request: Request, response: Response) -> None:
        expires = formatdate(self.clock() + self.config.expires, usegmt=True)
        cookie = f"{self.config.name}={self.token()};path=/;SameSite=Lax;Expires={expires}"
        response.add_header("Set-Cookie", cookie)

    def token(self) -> str:
        random, expires = os.urandom(8).hex(), int(self.clock())
        document = {"random": random, "expires": expires, "sign": self._sign(random, expires)}
        return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()

    def _problem(self, header: str | None, cookie: str | None) -> str | None:
        if not header:
            return "no csrf token in headers"
        if not cookie:
            return "no csrf cookie"
        if not hmac.compare_digest(header.encode("utf-8", "surrogateescape"), cookie.encode("utf-8", "surrogateescape")):
            return "csrf token mismatch"
        return None if self._is_ours(cookie) else "Failed to verify the csrf token signature"

    def _is_ours(self, token: str) -> bool:
        try:
            document = json.loads(base64.b64decode(token[:_LONGEST], validate=True))
        except (binascii.Error, ValueError, RecursionError):
            return False
        match document:
            case {"random": str(random), "expires": int(issued), "sign": str(sign)}:
                signed = self._sign(random, issued)
            case _:
                return False
        if not hmac.compare_digest(signed.encode(), sign.encode("utf-8", "surrogatepass")):
            return False
        return not self.config.expires or self.clock() - issued <= self.config.expires

    def _sign(self, random: str, issued: int) -> str:
        return hmac.new(self._key, f"{issued}:{random}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
