"""traffic-split: the requests of a route, split over several upstreams.

The law: the first rule that a request meets decides, and its upstreams take turns by weight, in each worker; an entry without
an upstream stands for the route's own. An upstream that is not there, or has nobody to take traffic, is answered for with 503:
what was meant for it does not go to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from shared.plugin.builtin.sampling import Sample, check_vars
from shared.plugin.fields import refused
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import MAX_INT, Array, Maybe, ReferenceId, Spec
from shared.schema.upstream import HTTP_SCHEMES, UpstreamSpec

if TYPE_CHECKING:
    from shared.plugin.host import Host

GONE = Reply(503, {"error_msg": "no upstream node available"})


class MatchSpec(Spec):
    vars: Annotated[list[Any], AfterValidator(check_vars)] = Field(default_factory=list)


class WeightedSpec(Spec):
    """`upstream_id` before `upstream`; neither: the route's own."""

    upstream_id: Maybe[ReferenceId] = None
    upstream: Maybe[UpstreamSpec] = None
    weight: Annotated[int, Field(ge=0, le=MAX_INT)] = 1

    @model_validator(mode="after")
    def _speaks_http(self) -> Self:
        if self.upstream is not None and self.upstream.scheme not in HTTP_SCHEMES:
            raise refused(f"upstream: expected a scheme of HTTP, got {self.upstream.scheme}")
        return self


class RuleSpec(Spec):
    match: Maybe[Array[MatchSpec]] = None
    weighted_upstreams: Annotated[Array[WeightedSpec], Field(min_length=1, max_length=20)] = (WeightedSpec(),)


class TrafficSplitConfig(Spec):
    rules: Maybe[Array[RuleSpec]] = None


# Which upstream as of now; None: there is none that takes traffic.
Find = Callable[[], object | None]


class Turns:
    """Smooth weighted round robin, as nginx has it: in each round everybody gains its weight, and the richest pays for all."""

    def __init__(self, weights: Iterable[int]) -> None:
        self._weights = tuple(weights)
        self._total = sum(self._weights)
        self._credit = [0] * len(self._weights)

    def next(self) -> int:
        """The place of whose turn it is. Not to be asked where nobody has a weight."""
        credit = self._credit
        best = 0
        for place, weight in enumerate(self._weights):
            credit[place] += weight
            if credit[place] > credit[best]:
                best = place
        credit[best] -= self._total
        return best


class _Rule:
    def __init__(self, number: int, spec: RuleSpec) -> None:
        self._number = number
        # Of one without a weight it is never the turn.
        self.weighted = [(place, one) for place, one in enumerate(spec.weighted_upstreams) if one.weight]
        self.turns = Turns(one.weight for _, one in self.weighted)
        self._matches = [Sample(None, one.vars) for one in spec.match or ()]
        self.choices: list[Find | None] = []

    def is_met(self, request: Request) -> bool:
        return not self._matches or any(match.takes(request) for match in self._matches)

    def name(self, place: int) -> str:
        return f"{self._number}/{place}"


class TrafficSplit(Plugin[TrafficSplitConfig]):
    name = "traffic-split"
    priority = 966
    Config = TrafficSplitConfig

    def __init__(self, config: TrafficSplitConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._rules = [_Rule(number, rule) for number, rule in enumerate(config.rules or ())]
        self._own: Callable[[str], object | None] = lambda name: None

    @classmethod
    def upstream_ids(cls, conf: object) -> Iterator[str]:
        for rule in _list(conf, "rules"):
            for one in _list(rule, "weighted_upstreams"):
                named = one.get("upstream_id") if isinstance(one, dict) else None
                if named is not None:
                    yield str(named)

    def own_upstreams(self) -> Mapping[str, object]:
        found = {}
        for rule in self._rules:
            for place, one in rule.weighted:
                if one.upstream_id is None and one.upstream is not None:
                    found[rule.name(place)] = one.upstream
        return found

    def use_upstreams(self, find: Callable[[str], object | None]) -> None:
        self._own = find

    def attach(self, host: Host) -> None:
        for rule in self._rules:
            rule.choices = [self._choice(host, rule.name(place), one) for place, one in rule.weighted]

    def _choice(self, host: Host, name: str, one: WeightedSpec) -> Find | None:
        """None: the route's own."""
        if one.upstream_id is not None:
            upstream_id = one.upstream_id
            return lambda: host.upstream(upstream_id)
        return None if one.upstream is None else lambda: self._own(name)

    def access(self, request: Request) -> Reply | None:
        for rule in self._rules:
            if rule.is_met(request):
                return self._split(rule, request) if rule.choices else None
        return None

    @staticmethod
    def _split(rule: _Rule, request: Request) -> Reply | None:
        find = rule.choices[rule.turns.next()]
        if find is None:
            return None
        upstream = find()
        if upstream is None:
            return GONE
        request.set_upstream(upstream)
        return None


def _list(value: object, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
