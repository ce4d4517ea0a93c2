"""cors: what browsers ask before one site's page reads another's answer (the Fetch standard, section 3.2).

The law: the origin that is allowed is the one that asked, if it may, and a cache is told that the answer depends on it; with
credentials nothing is `*`. Every OPTIONS request is taken for the browser's own question, as in APISIX.
"""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from shared.plugin.fields import Regex, refused
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.regex import compile_regex
from shared.schema.common import Maybe, SomeUnique, Spec

_ORIGINS = re.compile(r"\*|\*\*|null|\w+://[^\s,]+(,\w+://[^\s,]+)*")
ALL_METHODS = "GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE"


def _origins(value: str) -> str:
    if _ORIGINS.fullmatch(value) is None:
        raise refused('expected "*", "**", "null" or origins as in "https://a.example,https://b.example:8443"')
    return value


Origins = Annotated[str, AfterValidator(_origins)]
# Tokens, comma-separated.
Names = Annotated[str, Field(pattern=r"^[ !-~]*$")]
Patterns = SomeUnique[Regex]


class CorsMetadata(Spec):
    allow_origins: Maybe[dict[Annotated[str, Field(min_length=1, max_length=4096)], Origins]] = None


class CorsConfig(Spec):
    allow_origins: Origins = "*"
    allow_methods: Names = "*"
    allow_headers: Names = "*"
    expose_headers: Maybe[Names] = None
    max_age: Annotated[int, Field(ge=-1, le=2**31 - 1)] = 5
    allow_credential: bool = False
    allow_origins_by_regex: Maybe[Patterns] = None
    allow_origins_by_metadata: Maybe[SomeUnique[Annotated[str, Field(min_length=1, max_length=4096)]]] = None
    timing_allow_origins: Maybe[Origins] = None
    timing_allow_origins_by_regex: Maybe[Patterns] = None

    @model_validator(mode="after")
    def _credentials_name_names(self) -> Self:
        given = (self.allow_origins, self.allow_methods, self.allow_headers, self.expose_headers, self.timing_allow_origins)
        if self.allow_credential and "*" in given:
            raise refused('you can not set "*" for other option when "allow_credential" is true')
        return self


class Allowed:
    """Which origins; `always` is the answer that does not depend on who asks."""

    def __init__(self, origins: str, patterns: tuple[str, ...] | None) -> None:
        self._patterns = None if patterns is None else [compile_regex(pattern) for pattern in patterns]
        self._mirrors = origins == "**"
        self._listed = frozenset(origins.split(",")) if "," in origins else None
        self.always = origins if self._patterns is None and self._listed is None and not self._mirrors else None

    def answer(self, origin: str | None) -> str | None:
        if self._patterns is not None:
            data = (origin or "").encode("utf-8", "surrogateescape")
            return origin if origin and any(regex.search(data) for regex in self._patterns) else None
        if self._mirrors:
            return origin or "*"
        if self._listed is not None:
            return origin if origin in self._listed else None
        return self.always


class Cors(Plugin[CorsConfig]):
    name = "cors"
    priority = 4000
    Config = CorsConfig
    Metadata = CorsMetadata

    def __init__(self, config: CorsConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._allowed = Allowed(config.allow_origins, config.allow_origins_by_regex)
        named = (metadata.allow_origins or {}) if isinstance(metadata, CorsMetadata) else {}
        self._more = [Allowed(named[name], None) for name in config.allow_origins_by_metadata or () if name in named]
        timing = config.timing_allow_origins
        self._timing = None
        if timing is not None or config.timing_allow_origins_by_regex is not None:
            self._timing = Allowed(timing or "", config.timing_allow_origins_by_regex)
        self._varies = config.allow_origins != "*" or config.allow_origins_by_regex is not None or bool(self._more)
        self._fields = self._constant_fields()

    def rewrite(self, request: Request) -> Reply | None:
        return Reply(200) if request.method == "OPTIONS" else None

    def header_filter(self, request: Request, response: Response) -> None:
        origin = request.header("origin")
        allowed = self._allowed.answer(origin)
        if allowed is None or (self._more and allowed != origin):
            allowed = next((found for one in self._more if (found := one.answer(origin)) is not None), allowed)
        if self._varies:
            response.add_header("Vary", "Origin")
        if allowed is not None:
            self._allow(request, response, allowed)
        if self._timing is not None:
            timing = self._timing.answer(origin)
            if timing:
                response.set_header("Timing-Allow-Origin", timing)

    def _allow(self, request: Request, response: Response, origin: str) -> None:
        response.set_header("Access-Control-Allow-Origin", origin)
        for name, value in self._fields:
            response.set_header(name, value)
        if self.config.allow_headers == "**":
            asked = request.header("access-control-request-headers")
            if asked:
                response.set_header("Access-Control-Allow-Headers", asked)
        # A credential for whoever asks without an origin would be one for all.
        if self.config.allow_credential and origin != "*":
            response.set_header("Access-Control-Allow-Credentials", "true")

    def _constant_fields(self) -> list[tuple[str, str]]:
        config = self.config
        methods = ALL_METHODS if config.allow_methods == "**" else config.allow_methods
        fields = [("Access-Control-Allow-Methods", methods)]
        if config.allow_headers != "**":
            fields.append(("Access-Control-Allow-Headers", config.allow_headers))
        fields.append(("Access-Control-Max-Age", str(config.max_age)))
        if config.expose_headers:
            fields.append(("Access-Control-Expose-Headers", config.expose_headers))
        return [(name, value) for name, value in fields if value]
