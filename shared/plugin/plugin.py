"""What a native plugin is: one class, made once for each configuration of it, asked for every request.

The law: all that can be done when the configuration is read is done in `__init__`; a phase only looks and answers. A phase
answers None (go on), or a Reply that ends the request's way to the upstream. It is a plain function; one that must wait is
`async def` (or returns an awaitable when it must), one that looks at the request's body answers a WholeBody, and only then does
the request pause.

| phase         | when                                                                          | may answer |
|---------------|-------------------------------------------------------------------------------|------------|
| rewrite       | the route is found; nothing of the request has been sent                      | a Reply    |
| access        | after the rewrite phase of every plugin                                       | a Reply    |
| before_proxy  | after the access phase of every plugin, right before the upstream is chosen   | a Reply    |
| header_filter | a response's head is here, whoever made it: upstream, plugin or gateway       |            |
| body_filter   | for each piece of the response's body, the last (perhaps empty) with `eos`    | the piece  |
| log           | the exchange is over                                                          |            |

In each phase the plugins of global rules come first, then the higher priority.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel

from shared.plugin.body import WholeBody
from shared.plugin.host import Host
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response

C = TypeVar("C", bound=BaseModel)

Answer = Reply | None | WholeBody | Awaitable[Reply | None]
Phase = Literal["rewrite", "access", "before_proxy", "header_filter", "body_filter", "log"]
REQUEST_PHASES: tuple[Phase, ...] = ("rewrite", "access", "before_proxy")
PHASES: tuple[Phase, ...] = (*REQUEST_PHASES, "header_filter", "body_filter", "log")


class Plugin(Generic[C]):
    """Base of all plugins. `__init__` may raise ValueError: the configuration is then refused when it is written.

    `Metadata` is what plugin_metadata holds for all configurations of the plugin together; None: it knows none. `Consumer` is
    what a consumer says of itself; None: the plugin does not tell consumers. `encrypted` names fields kept encrypted. A plugin
    of the kind `auth` authenticates: its rewrite phase attaches a consumer to the request, or answers.
    """

    name: ClassVar[str]
    priority: ClassVar[int]
    version: ClassVar[str] = "0.1"
    kind: ClassVar[Literal["", "auth"]] = ""
    # Classes of pydantic models.
    Config: ClassVar[Any]
    Metadata: ClassVar[Any] = None
    Consumer: ClassVar[Any] = None
    encrypted: ClassVar[tuple[str, ...]] = ()
    # Whether a request may go to its upstream with another method (`Request.set_method`).
    changes_method: bool = False
    # Whether its body filter may return something else than it was given: what only looks leaves a declared length as it is.
    changes_body: bool = True
    # Whether its rewrite phase may answer a Switch: the gateway's own step where a consumer's plugins come in.
    switches: bool = False
    # Whether one of a global rule stays away from a route that has one of its own (APISIX's run_policy prefer_route).
    prefers_route: bool = False
    # Where its configuration stands, as in `route/1`; known from `attach` on.
    owner: str = ""

    def __init__(self, config: C, metadata: BaseModel | None = None) -> None:
        """`metadata` is an instance of `Metadata`, if the plugin has one and it is configured."""
        self.config = config

    @classmethod
    def consumer_key(cls, consumer: Any) -> str:  # noqa: ANN401 - an instance of its `Consumer`
        """What requests name this consumer by: the key of `Host.consumers`. For plugins that have a `Consumer`."""
        raise NotImplementedError

    @classmethod
    def upstream_ids(cls, conf: object) -> Iterable[str]:
        """The upstreams that a configuration names, as it is written, whatever its shape: they have to be there and to stay."""
        return ()

    def own_upstreams(self) -> Mapping[str, object]:
        """The upstreams that the configuration itself describes (UpstreamSpec), by names of the plugin's choice."""
        return {}

    def use_upstreams(self, find: Callable[[str], object | None]) -> None:
        """Called before `attach` where there are such: `find` has one of them as it is now, for `Request.set_upstream`; None
        when none of its nodes may take traffic."""

    def attach(self, host: Host) -> None:
        """A worker has compiled this configuration; called once, before the first request."""

    def detach(self) -> None:
        """No snapshot has this configuration any more, and no request that is under way: time to flush and to let go."""

    def phases(self) -> frozenset[Phase]:
        """Those that this configuration needs, by default all that the class has: the fewer, the less a request costs."""
        return class_phases(type(self))

    def rewrite(self, request: Request) -> Answer:
        raise NotImplementedError

    def access(self, request: Request) -> Answer:
        raise NotImplementedError

    def before_proxy(self, request: Request) -> Answer:
        raise NotImplementedError

    def header_filter(self, request: Request, response: Response) -> None:
        raise NotImplementedError

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        raise NotImplementedError

    def log(self, request: Request, response: Response | None) -> None:
        """`response` is None when none has begun."""
        raise NotImplementedError


AnyPlugin = Plugin[Any]


def class_phases(plugin: type[AnyPlugin]) -> frozenset[Phase]:
    return frozenset(phase for phase in PHASES if getattr(plugin, phase) is not getattr(Plugin, phase))
