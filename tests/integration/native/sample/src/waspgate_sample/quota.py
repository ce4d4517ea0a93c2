"""So many requests for each key that a header names, and no more."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.plugin import Plugin, Reply, Request, Response, Spec


class QuotaConfig(Spec):
    header: Annotated[str, Field(min_length=1)] = "X-Key"
    requests: Annotated[int, Field(ge=1)]


class Quota(Plugin[QuotaConfig]):
    name = "sample-quota"
    priority = 2000
    Config = QuotaConfig

    def __init__(self, config: QuotaConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._left: dict[str, int] = {}
        self._refusal = Reply(429, {"error_msg": "no requests left"})

    def access(self, request: Request) -> Reply | None:
        key = request.header(self.config.header) or request.client_ip
        left = self._left.get(key, self.config.requests)
        if not left:
            return self._refusal
        self._left[key] = request.context[self] = left - 1
        return None

    def header_filter(self, request: Request, response: Response) -> None:
        response.set_header("X-Requests-Left", str(request.context.get(self, 0)))
