"""proxy-rewrite: another target, method, Host or other headers towards the upstream.

The law: what goes to the upstream is a target in normal form, as the one that was routed: a variable's value cannot add a `..`
segment or a query, and where nothing unambiguous comes out the answer is 400. Expressions see the path in that form too, with
its escapes (APISIX decodes it, and loses what `%2F` means); so `use_real_request_uri_unsafe` has nothing left to do but to show
them the query as well.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from shared.plugin.fields import RequestHeaderChanges, Template, header_changes, refused
from shared.plugin.header_edits import request_edits
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, check_authority
from shared.plugin.template import Template as Compiled
from shared.plugin.template import compile_replacement, compile_template
from shared.regex import Match, compile_regex
from shared.schema.common import Maybe, Spec

Method = Literal[
    "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "LOCK", "UNLOCK", "PATCH", "TRACE"
]
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:[/;]|$)")
BAD_TARGET = {"error_msg": "the rewritten request is not valid"}


def _pairs(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(items) % 2:
        raise refused("The length of regex_uri should be an even number")
    for pattern, replacement in zip(items[::2], items[1::2], strict=True):
        try:
            compile_replacement(replacement, compile_regex(pattern).groups)
        except ValueError as error:
            raise refused(f"invalid regex_uri({pattern}, {replacement}): {error}") from None
    return items


def _host(value: str) -> str:
    try:
        check_authority(value)
    except ValueError as error:
        raise refused(str(error)) from None
    return value


class ProxyRewriteConfig(Spec):
    uri: Maybe[Annotated[Template, Field(min_length=1, max_length=4096, pattern=r"^/")]] = None
    regex_uri: Maybe[Annotated[tuple[str, ...], Field(strict=False, min_length=2), AfterValidator(_pairs)]] = None
    method: Maybe[Method] = None
    host: Maybe[Annotated[str, AfterValidator(_host)]] = None
    headers: Maybe[Annotated[RequestHeaderChanges, BeforeValidator(header_changes)]] = None
    use_real_request_uri_unsafe: Maybe[bool] = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise refused("expect object to have at least 1 properties")
        return self


class ProxyRewrite(Plugin[ProxyRewriteConfig]):
    name = "proxy-rewrite"
    priority = 1008
    Config = ProxyRewriteConfig

    def __init__(self, config: ProxyRewriteConfig, metadata: object = None) -> None:
        super().__init__(config)
        path, mark, query = (config.uri or "").partition("?")
        self._path = compile_template(path) if config.uri is not None else None
        self._query = compile_template(query) if mark else None
        items = config.regex_uri or ()
        compiled = [(compile_regex(pattern), replacement) for pattern, replacement in zip(items[::2], items[1::2], strict=True)]
        self._regex = tuple((regex, compile_replacement(text, regex.groups)) for regex, text in compiled)
        self._edits = request_edits(config.headers)
        self.changes_method = config.method is not None

    def rewrite(self, request: Request) -> Reply | None:
        config = self.config
        match: Match | None = None
        try:
            if self._path is not None:
                self._set_uri(request, self._path)
            elif self._regex:
                match = self._replace(request)
            if config.host is not None:
                request.set_header("Host", config.host)
            if self._edits:
                self._edits.apply(request, request, match)
        except ValueError:
            # A path without one meaning, or a Host that is none: both can only come from what the client sent.
            return Reply(400, BAD_TARGET)
        if config.method is not None:
            request.set_method(config.method)
        return None

    def _set_uri(self, request: Request, template: Compiled) -> None:
        path = template.render(request, quote=_quoted_path)
        if template.constant is None and _DOT_SEGMENT.search(path) is not None:
            raise ValueError("a dot segment from a variable")
        own = None if self._query is None else self._query.render(request, quote=_quoted_query)
        _send_to(request, path, own)

    def _replace(self, request: Request) -> Match | None:
        """The first expression that matches; only its match is replaced."""
        text = request.asked_target if self.config.use_real_request_uri_unsafe else request.path
        data = text.encode("utf-8", "surrogateescape")
        for regex, replacement in self._regex:
            match = regex.search(data)
            if match is None:
                continue
            start, end = match.span()
            new = data[:start].decode("utf-8", "surrogateescape") + replacement.render(request, match, _quoted_path)
            new += data[end:].decode("utf-8", "surrogateescape")
            path, mark, query = new.partition("?")
            if self.config.use_real_request_uri_unsafe:
                request.set_target(new)
            else:
                _send_to(request, path, query if mark else None)
            return match
        return None


def _send_to(request: Request, path: str, own: str | None) -> None:
    """With the client's query behind the one that the configuration asks for."""
    queries = [query for query in (own, request.query) if query]
    mark = "?" if queries or own is not None or request.query is not None else ""
    request.set_target(path.replace("?", "%3F") + mark + "&".join(queries))


def _quoted_path(value: str) -> str:
    return quote(value, safe="/!$&'()*+,=:@~", errors="surrogateescape")


def _quoted_query(value: str) -> str:
    return quote(value, safe="/:@!$'()*,~", errors="surrogateescape")
