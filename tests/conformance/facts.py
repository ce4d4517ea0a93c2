"""What a plugin may ask and say: properties with their encodings, time, logs, the status of calls."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping

from shared.proxy_wasm.abi import LogLevel
from tests.conformance.stage import Stage, answers
from tests.conformance.table import FIRST, LATER, TABLE
from tests.support.chain import Case

asks, case = TABLE.asks, TABLE.case
GET, SET = "proxy_get_property", "proxy_set_property"

HEAD = b"POST /p/a?q=1&r HTTP/1.1\r\nHost: h:81\r\nReferer: ref\r\nUser-Agent: ua\r\nX-Request-Id: id1\r\nA: 1\r\na: 2\r\n"
ANSWER = b"HTTP/1.1 404 Nope\r\nserver: up\r\ngrpc-status: 5\r\n"


def integer(value: int) -> bytes:
    return struct.pack("<q", value)


def pairs(*fields: tuple[bytes, bytes]) -> bytes:
    sizes = b"".join(struct.pack("<II", len(name), len(value)) for name, value in fields)
    return struct.pack("<I", len(fields)) + sizes + b"".join(name + b"\0" + value + b"\0" for name, value in fields)


STRINGS: dict[str, bytes] = {
    "request.path": b"/p/a?q=1&r",
    "request.url_path": b"/p/a",
    "request.query": b"q=1&r",
    "request.host": b"h:81",
    "request.scheme": b"http",
    "request.method": b"POST",
    "request.referer": b"ref",
    "request.useragent": b"ua",
    "request.id": b"id1",
    "request.protocol": b"HTTP/1.1",
    "request.headers.a": b"1,2",
    "response.headers.server": b"up",
    "source.address": b"192.0.2.7:50000",
    "destination.address": b"[::1]:9080",
    "upstream.address": b"192.0.2.9:8080",
    "route_name": b"route one",
    "xds.route_name": b"route one",
    "cluster_name": b"upstream one",
    "xds.cluster_name": b"upstream one",
}
NUMBERS: dict[str, int] = {
    "request.time": 1_700_000_000_000_000_000,
    "request.duration": 1500,
    "request.size": 4,
    "request.total_size": 4
    + sum(
        map(len, (b":authority:path:method:schemeh:81/p/a?q=1&rPOSThttp", b"refererrefuser-agentua", b"x-request-idid1a1a2"))
    ),
    "response.code": 404,
    "response.grpc_status": 5,
    "response.size": 5,
    "response.total_size": 5 + len(b":status404serverupgrpc-status5"),
    "source.port": 50000,
    "destination.port": 9080,
    "connection.id": 17,
    "connection_id": 17,
    "upstream.port": 8080,
    "upstream.request_attempt_count": 2,
    "listener_direction": 0,
    "xds.listener_direction": 0,
}
OTHERS: dict[str, bytes] = {
    "connection.mtls": b"\0",
    "response.headers": pairs((b":status", b"404"), (b"server", b"up"), (b"grpc-status", b"5")),
    "response.trailers.sum": b"1",
    "response.trailers": pairs((b"sum", b"1")),
    "request.trailers.sum": b"2",
}
ALL = {**STRINGS, **{name: integer(value) for name, value in NUMBERS.items()}, **OTHERS}


def path(dotted: str) -> str:
    return dotted.replace(".", "%00")


def printed(value: bytes) -> str:
    return "".join(chr(c) if 32 <= c < 127 and c != ord("%") else f"%{c:02x}" for c in value)


class Known:
    """More facts than a stream of a test has by itself."""

    upstream_address = ("192.0.2.9", 8080)
    upstream_name = "upstream one"
    attempts = 2
    duration_ns = 1500


def whole(stage: Stage, *script: str, known: type = Known) -> list[str]:
    case_: Case = stage.open(*script)
    for name in ("upstream_address", "upstream_name", "attempts", "duration_ns"):
        setattr(case_.facts, name, getattr(known, name, None))
    chain = case_.chain
    chain.request_head(HEAD, b"", False)
    chain.request_body(b"body", False)
    chain.request_trailers(b"sum: 2\r\n")
    chain.response_head(ANSWER, b"", False)
    chain.response_body(b"body", False)
    chain.response_trailers(b"sum: 1\r\n")
    return answers(case_.journal.take() + case_.finish())


def property_row(name: str, value: bytes, kind: str) -> None:
    @case(GET, f"`{name}`: {kind}")
    def _(stage: Stage) -> None:
        asked = (f"log property {path(name)}", f"log property {path(name)}%00")
        stage.expect(whole(stage, *asked), [f"OK {printed(value)}"] * 2)


for names, kind in ((STRINGS, "a string"), (NUMBERS, "8 bytes, little endian"), (OTHERS, "bytes")):
    kinds: Mapping[str, object] = names
    for name in kinds:
        property_row(name, ALL[name], "one byte" if name == "connection.mtls" else "pairs" if name.endswith("ers") else kind)

for name in ("plugin_name", "plugin_root_id", "plugin_vm_id"):
    asks(
        GET,
        f"`{name}` in every callback",
        tuple(f"{at} property {name}" for at in ("configure", "request_headers", "log")),
        *["OK p"] * 3,
    )


@case(GET, "`node.id`: the name of the host")
def _(stage: Stage) -> None:
    (answer,) = whole(stage, "log property node%00id")
    stage.expect(answer, f"OK {printed(stage.worker.runtime.node.encode())}")


@case(GET, "what the stream does not have is NotFound: an unknown path, an absent header, an empty path, an upstream too early")
def _(stage: Stage) -> None:
    names = ("absent", "request.absent", "request.headers.absent", "", "request", "request.path.x")
    stage.expect(whole(stage, *(f"log property {path(name)}" for name in names)), ["NOT_FOUND"] * len(names))
    nothing = type("Nothing", (), {})
    early = ("upstream.address", "upstream.port", "cluster_name", "response.code", "response.headers", "request.duration")
    other = Stage(stage.engine, stage.version)
    stage.expect(
        whole(other, *(f"request_headers property {path(name)}" for name in early), known=nothing), ["NOT_FOUND"] * len(early)
    )


asks(
    GET,
    "properties of a stream are NotFound in a plugin context",
    ("configure property request%00path", "configure property source%00address"),
    "NOT_FOUND",
    "NOT_FOUND",
)
asks(
    GET,
    "follows what plugins changed",
    ("request_headers replace 0 :path /new", "request_headers property request%00path"),
    "OK",
    "OK /new",
)
asks(
    SET,
    "is read again by its path, and as filter state",
    ("request_headers set_property a%00b value", "log property a%00b", "log property filter_state%00wasm.a%00b"),
    "OK",
    "OK value",
    "OK value",
)
asks(
    SET,
    "a trailing NUL is no part of the path",
    ("request_headers set_property a%00 value", "log property a"),
    "OK",
    "OK value",
)
asks(SET, "an empty value is a value", ("request_headers set_property a %", "log property a"), "OK", "OK")
asks(
    SET,
    "NotFound in a plugin context, and with an empty path",
    ("configure set_property a b", "request_headers set_property % b"),
    "NOT_FOUND",
    "NOT_FOUND",
)


@case(SET, "other plugins of the request read it")
def _(stage: Stage) -> None:
    lines = stage.chain(a="request_headers set_property mine 1", b="request_headers property mine").request()
    stage.expect([line for line in lines if line.startswith("b prop")], ["b property: OK 1"])


# --- time, logs, status

TIME, LOG, LEVEL, STATUS = "proxy_get_current_time_nanoseconds", "proxy_log", "proxy_get_log_level", "proxy_get_status"


@case(TIME, "Unix time in nanoseconds")
def _(stage: Stage) -> None:
    before = time.time_ns()
    (told,) = stage.answers("request_headers time")
    stage.expect(before <= int(told.removeprefix("OK ")) <= time.time_ns(), True)


asks(STATUS, "Ok without a message before any call ended", "request_headers status", "OK 0")
asks(LOG, "an unknown level is BadArgument", "request_headers log 6 a", "BAD_ARGUMENT")
asks(LOG, "an empty message is Ok, and any bytes are", ("request_headers log 2 %", "request_headers log 2 %ff%00"), "OK", "OK")


@case(LOG, "each level reaches the log, below the threshold none does and the answer is Ok")
def _(stage: Stage) -> None:
    lines = stage.play(*(f"configure log {level.value} {level.name}" for level in LogLevel))
    stage.expect([line for line in lines if line.isupper()], ["INFO", "WARN", "ERROR", "CRITICAL"])
    stage.expect(answers(lines), ["OK"] * len(LogLevel))


@case(LEVEL, "the threshold", LATER)
def _(stage: Stage) -> None:
    stage.expect(stage.answers("configure level"), [f"OK {LogLevel.INFO.value}"])


@case(LEVEL, "a module of the oldest version may import it too", FIRST)
def _(stage: Stage) -> None:
    stage.expect(stage.answers("configure level"), [f"OK {LogLevel.INFO.value}"])
