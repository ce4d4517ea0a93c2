"""redirect: an answer that sends the client elsewhere.

The law: a Location is one line whatever a variable held; a request that is https already is not redirected to https.
"""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import quote

from pydantic import AfterValidator, Field, model_validator

from shared.plugin.fields import Template, one_of, refused
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.plugin.template import compile_replacement, compile_template
from shared.regex import compile_regex
from shared.schema.common import Maybe, Spec


def _pair(items: tuple[str, ...]) -> tuple[str, ...]:
    try:
        compile_replacement(items[1], compile_regex(items[0]).groups)
    except ValueError as error:
        raise refused(f"invalid regex_uri: {error}") from None
    return items


class RedirectConfig(Spec):
    ret_code: Annotated[int, Field(ge=200, le=599)] = 302
    uri: Maybe[Annotated[Template, Field(min_length=2)]] = None
    regex_uri: Maybe[Annotated[tuple[str, ...], Field(strict=False, min_length=2, max_length=2), AfterValidator(_pair)]] = None
    http_to_https: Maybe[bool] = None
    encode_uri: bool = False
    append_query_string: bool = False

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        one_of(self, "uri", "regex_uri", "http_to_https")
        if self.http_to_https and self.append_query_string:
            raise refused("only one of `http_to_https` and `append_query_string` can be configured.")
        return self


class RedirectMetadata(Spec):
    """Where https is, when it is not at 443."""

    https_port: Annotated[int, Field(ge=1, le=65535)] = 443


class Redirect(Plugin[RedirectConfig]):
    name = "redirect"
    priority = 900
    Config = RedirectConfig
    Metadata = RedirectMetadata

    def __init__(self, config: RedirectConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._uri = None if config.uri is None else compile_template(config.uri)
        if config.regex_uri is not None:
            pattern, replacement = config.regex_uri
            self._regex = compile_regex(pattern)
            self._replacement = compile_replacement(replacement, self._regex.groups)
        port = metadata.https_port if isinstance(metadata, RedirectMetadata) else 443
        self._port = "" if port == 443 else f":{port}"

    def rewrite(self, request: Request) -> Reply | None:
        code = self.config.ret_code
        if self.config.http_to_https:
            if request.scheme == "https":
                return None
            code = 301 if request.method in ("GET", "HEAD") else 308
        uri = self._location(request)
        if uri is None:
            return None
        if self.config.encode_uri:
            uri = quote(uri, safe="/:?#[]@!$&'()*+,;=%~", errors="surrogateescape")
        if self.config.append_query_string and request.query:
            uri += ("&" if "?" in uri else "?") + request.query
        return Reply(code, b"", (("Location", uri),))

    def _location(self, request: Request) -> str | None:
        if self._uri is not None:
            return self._uri.render(request)
        if self.config.http_to_https:
            return f"https://{request.host}{self._port}{request.asked_target}"
        if self.config.http_to_https is not None:
            return None
        data = request.path.encode("utf-8", "surrogateescape")
        match = self._regex.search(data)
        if match is None:
            return None
        start, end = match.span()
        rendered = self._replacement.render(request, match)
        return data[:start].decode("utf-8", "surrogateescape") + rendered + data[end:].decode("utf-8", "surrogateescape")
