"""Health checks of an upstream, with APISIX's properties and defaults.

The law: passive checks come only together with active ones, which alone can bring a node back that gets no traffic.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from shared.schema.common import MAX_SECONDS, Array, Maybe, NotYet, Seconds, Spec, UniqueArray
from shared.schema.hosts import Address

# The counters are bytes, and one value is for "at the limit".
MOST = 254
# All that a probe sends must fit into one message; a probe is no upload.
LONGEST_TEXT = 4096

_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[\x20-\x7e\t]*")
_PATH = re.compile(r"/[\x21-\x7e]*")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Fields that say where the request goes and where it ends are the probe's own.
_OWN_FIELDS = ("content-length", "transfer-encoding", "connection", "upgrade")


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("checks", "{text}", {"text": text})


def _field(line: str) -> str:
    if not _FIELD.fullmatch(line):
        raise _refuse(f'expected a header like "Name: value" in printable ASCII, got {line!r}')
    name = line.partition(":")[0].lower()
    if name in _OWN_FIELDS:
        raise _refuse(f'"{name}" is set by the probe itself')
    return line


def _path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise _refuse(f"expected a path that begins with / in printable ASCII without spaces, got {value!r}")
    return value


def _method(value: str) -> str:
    if not _METHOD.fullmatch(value) or value == "CONNECT":
        raise _refuse(f"expected an HTTP method, got {value!r}")
    return value


Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrOff = Annotated[int, Field(ge=0, le=MOST)]
Interval = Annotated[int, Field(ge=1, le=int(MAX_SECONDS))]
StatusCode = Annotated[int, Field(ge=200, le=599)]
Statuses = Annotated[UniqueArray[StatusCode], Field(min_length=1)]
HeaderLine = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_field)]

CheckType = Literal["http", "https", "tcp"]


class ActiveHealthySpec(Spec):
    interval: Interval = 1
    http_statuses: Statuses = (200, 302)
    successes: Count = 2


class ActiveUnhealthySpec(Spec):
    interval: Interval = 1
    http_statuses: Statuses = (429, 404, 500, 501, 502, 503, 504, 505)
    http_failures: Count = 5
    tcp_failures: Count = 2
    timeouts: Count = 3


class ActiveSpec(Spec):
    type: CheckType = "http"
    timeout: Seconds = 1.0
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 10
    host: Maybe[Address] = None
    port: Maybe[Annotated[int, Field(ge=1, le=65535)]] = None
    http_method: Annotated[str, Field(min_length=1, max_length=32), AfterValidator(_method)] = "GET"
    http_path: Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_path)] = "/"
    http_req_body: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""
    https_verify_certificate: bool = True
    https_sni: NotYet = None
    req_headers: Maybe[Annotated[Array[HeaderLine], Field(min_length=1, max_length=50)]] = None
    healthy: ActiveHealthySpec = ActiveHealthySpec()
    unhealthy: ActiveUnhealthySpec = ActiveUnhealthySpec()


class PassiveHealthySpec(Spec):
    http_statuses: Statuses = (*range(200, 209), 226, *range(300, 309))
    successes: CountOrOff = 5


class PassiveUnhealthySpec(Spec):
    http_statuses: Statuses = (429, 500, 503)
    tcp_failures: CountOrOff = 2
    timeouts: CountOrOff = 7
    http_failures: CountOrOff = 5


class PassiveSpec(Spec):
    """`type` says what the operator thinks of; requests show their statuses, failures and timeouts either way."""

    type: CheckType = "http"
    healthy: PassiveHealthySpec = PassiveHealthySpec()
    unhealthy: PassiveUnhealthySpec = PassiveUnhealthySpec()


class ChecksSpec(Spec):
    active: ActiveSpec
    passive: Maybe[PassiveSpec] = None
