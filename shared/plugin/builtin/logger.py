"""What loggers have in common: which requests they tell of, what they say, and how entries come together in batches.

The law: a request never waits for a logger, and never fails by one. A configuration's entries have one queue in each worker,
which begins with its first entry and ends, flushed, when the configuration goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, Field

from shared.expression.language import ExpressionError
from shared.plugin.alternatives import compile_alternatives
from shared.plugin.batch import Batches, BatchLimits
from shared.plugin.fields import refused
from shared.plugin.host import Host
from shared.plugin.log_entry import compile_format, encoded, full_entry
from shared.plugin.plugin import Phase, Plugin
from shared.plugin.request import Request, Response
from shared.schema.common import MAX_INT, Maybe, Spec, Text

_BODY_BYTES = 524_288
_LARGEST_BODY = 16 * 1024 * 1024


def _a_format(source: dict[str, Any]) -> dict[str, Any]:
    try:
        compile_format(source)
    except ValueError as error:
        raise refused(str(error)) from None
    return source


def _an_expression(rules: list[Any]) -> list[Any]:
    try:
        compile_alternatives(rules)
    except ExpressionError as error:
        raise refused(f"failed to validate the expression: {error}") from None
    return rules


LogFormat = Annotated[dict[str, Any], Field(min_length=1), AfterValidator(_a_format)]
Expression = Annotated[list[Any], AfterValidator(_an_expression)]
Count = Annotated[int, Field(ge=0, le=MAX_INT)]
Some = Annotated[int, Field(ge=1, le=MAX_INT)]
BodyBytes = Annotated[int, Field(ge=1, le=_LARGEST_BODY)]


class LoggerConfig(Spec):
    """What is said. Of bodies the beginning: so many bytes."""

    log_format: Maybe[LogFormat] = None
    include_req_body: bool = False
    include_req_body_expr: Maybe[Expression] = None
    include_resp_body: bool = False
    include_resp_body_expr: Maybe[Expression] = None
    max_req_body_bytes: BodyBytes = _BODY_BYTES
    max_resp_body_bytes: BodyBytes = _BODY_BYTES

    def limits(self, max_pending: int) -> BatchLimits:
        raise NotImplementedError


class BatchConfig(LoggerConfig):
    """When it is sent; times in seconds. `name` is for people."""

    name: Text = "logger"
    batch_max_size: Some = 1000
    inactive_timeout: Some = 5
    buffer_duration: Some = 60
    max_retry_count: Count = 0
    retry_delay: Count = 1

    def limits(self, max_pending: int) -> BatchLimits:
        return BatchLimits(
            self.batch_max_size,
            self.inactive_timeout,
            self.buffer_duration,
            self.max_retry_count,
            self.retry_delay,
            max_pending,
        )


class LoggerMetadata(Spec):
    """For all configurations of a logger that have no format of their own; `max_pending_entries` is for each of them."""

    log_format: Maybe[LogFormat] = None
    max_pending_entries: Some = 8192


C = TypeVar("C", bound=LoggerConfig)


class Logger(Plugin[C]):
    """Base. `send` is awaited with one batch at a time."""

    Metadata: ClassVar[Any] = LoggerMetadata
    changes_body = False
    _host: Host | None = None

    def __init__(self, config: C, metadata: Any = None) -> None:  # noqa: ANN401 - some loggers' metadata says more
        super().__init__(config)
        source = config.log_format or (None if metadata is None else metadata.log_format)
        self._entry = full_entry if source is None else compile_format(source)
        self._limits = config.limits(8192 if metadata is None else metadata.max_pending_entries)
        self._with_request = _matches(config.include_req_body_expr)
        self._with_response = _matches(config.include_resp_body_expr)
        self.batches: Batches | None = None

    async def send(self, entries: Sequence[bytes]) -> None:
        """Raises when they were not taken."""
        raise NotImplementedError

    def phases(self) -> frozenset[Phase]:
        phases: set[Phase] = {"log"}
        if self.config.include_req_body:
            phases.add("rewrite")
        if self.config.include_resp_body:
            phases.add("body_filter")
        return frozenset(phases)

    def attach(self, host: Host) -> None:
        self._host = host

    def detach(self) -> None:
        if self.batches is not None:
            self.batches.close()

    def rewrite(self, request: Request) -> None:
        request.keep_body(self.config.max_req_body_bytes)

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        """Only looks."""
        kept: bytearray | None = request.context.get(self)
        if kept is None:
            kept = request.context[self] = bytearray()
        if len(kept) < self.config.max_resp_body_bytes:
            kept += data[: self.config.max_resp_body_bytes - len(kept)]
        return data

    def log(self, request: Request, response: Response | None) -> None:
        batches = self.batches or self._begin()
        batches.add(self._encoded(request, response))

    def _encoded(self, request: Request, response: Response | None) -> bytes:
        entry = self._entry(request, response)
        config = self.config
        if config.include_req_body and self._with_request(request, response):
            _part(entry, "request")["body"] = _shown(request.kept_body)
        if config.include_resp_body and self._with_response(request, response):
            _part(entry, "response")["body"] = _shown(bytes(request.context.get(self, b"")))
        return encoded(entry)

    def _begin(self) -> Batches:
        host = self._host
        assert host is not None
        batches = self.batches = Batches(self._limits, self.send, lambda error: host.failed(self.name, error))
        host.background(f"plugin {self.name}", batches.run())
        return batches


def _matches(rules: list[Any] | None) -> Any:  # noqa: ANN401 - a predicate
    if rules is None:
        return lambda request, response: True
    matches = compile_alternatives(rules)

    def asked(request: Request, response: Response | None) -> bool:
        variables = request.variables
        variables.status = None if response is None else response.status
        return matches(variables)

    return asked


def _part(entry: dict[str, Any], name: str) -> dict[str, Any]:
    part = entry.get(name)
    if not isinstance(part, dict):
        part = entry[name] = {}
    return part


def _shown(body: bytes) -> str:
    return body.decode("utf-8", "replace")
