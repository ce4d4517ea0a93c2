"""multi-auth: any one of several ways to authenticate.

The law: the plugins are asked in the order in which they stand, each as if it were alone, until one lets the request pass; the
refusal names the schemes of all of them and says of none what was wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from shared.plugin.body import Then, WholeBody
from shared.plugin.plugin import Answer, AnyPlugin, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Spec
from shared.schema.errors import from_validation

if TYPE_CHECKING:
    from shared.plugin.host import Host

_TOO_LARGE = Reply(413, {"message": "request body too large"})


class MultiAuthConfig(Spec):
    """Objects of one plugin's name and its configuration each."""

    auth_plugins: Annotated[
        tuple[Annotated[dict[str, dict[str, Any]], Field(min_length=1)], ...], Field(strict=False, min_length=2)
    ]


class MultiAuth(Plugin[MultiAuthConfig]):
    name = "multi-auth"
    priority = 2600
    kind: ClassVar[Literal["", "auth"]] = "auth"
    Config = MultiAuthConfig
    # All that there are; the registry, which has this one too, says it.
    plugins: ClassVar[Mapping[str, type[AnyPlugin]]] = {}

    def __init__(self, config: MultiAuthConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._plugins = tuple(_plugin(name, conf) for each in config.auth_plugins for name, conf in each.items())

    def attach(self, host: Host) -> None:
        for plugin in self._plugins:
            plugin.owner = self.owner
            plugin.attach(host)

    def detach(self) -> None:
        for plugin in self._plugins:
            plugin.detach()

    def rewrite(self, request: Request) -> Answer:
        return _Round(self._plugins, request).go_on()


class _Round:
    """One request's way through the plugins."""

    __slots__ = ("_body", "_left", "_refusals", "_request", "_then")

    def __init__(self, plugins: tuple[AnyPlugin, ...], request: Request) -> None:
        self._left = iter(plugins)
        self._request = request
        self._refusals: list[Reply] = []
        self._body: bytes | None = None
        self._then: Then

    def go_on(self) -> Answer:
        for plugin in self._left:
            answer = plugin.rewrite(self._request)
            if isinstance(answer, WholeBody):
                if self._body is None:
                    self._then = answer.then
                    return WholeBody(answer.limit, self._with_body)
                answer = _TOO_LARGE if len(self._body) > answer.limit else answer.then(self._request, self._body)
            if answer is None:
                return None
            if not isinstance(answer, Reply):
                return self._later(answer)
            self._refusals.append(answer)
        challenges = [field for refusal in self._refusals for field in refusal.headers if field[0] == "WWW-Authenticate"]
        return Reply(401, {"message": "Authorization Failed"}, tuple(dict.fromkeys(challenges)))

    def _with_body(self, request: Request, body: bytes) -> Reply | Awaitable[Reply | None] | None:
        self._body = body
        answer = self._then(request, body)
        if answer is None:
            return None
        if not isinstance(answer, Reply):
            return self._later(answer)
        self._refusals.append(answer)
        rest = self.go_on()
        assert not isinstance(rest, WholeBody)
        return rest

    async def _later(self, answer: Awaitable[Reply | None]) -> Reply | None:
        reply = await answer
        if reply is None:
            return None
        self._refusals.append(reply)
        rest = self.go_on()
        if isinstance(rest, WholeBody):
            # Who has waited once can no longer hold the request for its body.
            raise TypeError("a plugin that waits has to stand behind those that read the body")
        return await rest if isinstance(rest, Awaitable) else rest


def _plugin(name: str, conf: dict[str, Any]) -> AnyPlugin:
    """Raises ValueError."""
    plugin = MultiAuth.plugins.get(name)
    if plugin is None:
        raise ValueError(f"{name} plugin did not found")
    if plugin.kind != "auth" or plugin is MultiAuth:
        raise ValueError(f"{name} plugin is not supported")
    try:
        return plugin(plugin.Config.model_validate(conf))
    except ValidationError as error:
        text = from_validation(error, lambda _: tuple(plugin.Config.model_fields)).problems[0].text
        raise ValueError(f"plugin {name} check schema failed: {text}") from None
