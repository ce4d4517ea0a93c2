"""The cases of APISIX's Wasm module about headers, bodies and variables, in the dialect `apisix`."""

from __future__ import annotations

from tests.conformance.apisix import HEAD, PSEUDO, asks, case, play
from tests.conformance.stage import Stage, answers

# --- request headers

asks(
    "http_req_header.t 1-5, 22",
    "one value: the first, in any case; absent and empty names are NotFound",
    "request",
    ("get 0 X-API", "OK foo"),
    ("get 0 x-api", "OK foo"),
    ("get 0 x-two", "OK 1"),
    ("get 0 absent", "NOT_FOUND"),
    ("get 0 :authority", "OK localhost"),
    ("get 0 %", "NOT_FOUND"),
)
asks(
    "http_req_header.t 6, 7",
    "all values: real fields with `host`, in lower case and order, then the pseudo-headers",
    "request",
    ("pairs 0", f"OK host=localhost|connection=close|x-api=foo|x-two=1|x-two=2|{PSEUDO}"),
)
asks(
    "http_req_header.t 8-14, 23",
    "replace, add and remove, also where there is none; an empty name is ignored",
    "request",
    ("replace 0 x-api bar", "OK"),
    ("get 0 x-api", "OK bar"),
    ("replace 0 new v", "OK"),
    ("get 0 new", "OK v"),
    ("add 0 x-api baz", "OK"),
    ("pairs 0", f"OK host=localhost|connection=close|x-api=bar|x-two=1|x-two=2|new=v|x-api=baz|{PSEUDO}"),
    ("remove 0 x-two", "OK"),
    ("get 0 x-two", "NOT_FOUND"),
    ("remove 0 absent", "OK"),
    ("replace 0 % %", "OK"),
    ("add 0 % v", "OK"),
)
asks(
    "http_req_header.t 15-21, 24",
    "pseudo-headers: `:path` with its query, `:method`, `:scheme`",
    "request",
    ("get 0 :path", "OK /t?a=b"),
    ("get 0 :method", "OK GET"),
    ("get 0 :scheme", "OK http"),
)
asks(
    "http_req_header.t 25",
    "a pseudo-header cannot be removed",
    "request",
    ("remove 0 :method", "BAD_ARGUMENT"),
    ("remove 0 :path", "BAD_ARGUMENT"),
    ("get 0 :path", "OK /t?a=b"),
)
asks(
    "http_req_header.t 26, 28",
    "control characters in `:path` and `:method` are refused",
    "request",
    ("replace 0 :path a%0d%0aa", "BAD_ARGUMENT"),
    ("replace 0 :method a%0ac", "BAD_ARGUMENT"),
    ("replace 0 :method a%20c", "BAD_ARGUMENT"),
    ("get 0 :path", "OK /t?a=b"),
)


@case("http_req_header.t 27, 29", "`:path` and `:method` are the request that leaves")
def _(stage: Stage) -> None:
    for method, path in (("PURGE", "/a"), ("POST", "/a?"), ("GET", "/a?a=c")):
        other = Stage(stage.engine, stage.version)
        other.dialect = "apisix"
        script = (f"request_headers replace 0 :method {method}", f"request_headers replace 0 :path {path}")
        stage.expect(other.open(*script).request(head=HEAD)[-1].split("|")[0], f"> {method} {path} HTTP/1.1")


# --- response headers

asks(
    "http_resp_header.t 4-6, 10-16",
    "one value and all of them, `:status` last",
    "response",
    ("get 2 foo", "OK bar"),
    ("get 2 x-two", "OK 1"),
    ("get 2 %", "NOT_FOUND"),
    ("get 2 :status", "OK 200"),
    ("pairs 2", "OK foo=bar|x-two=1|x-two=2|connection=close|:status=200"),
)
asks(
    "http_resp_header.t 1-3, 7-9, 14, 15",
    "add, replace and delete; an empty value stays, an empty name is ignored",
    "response",
    ("add 2 foo baz", "OK"),
    ("replace 2 x-two %", "OK"),
    ("get 2 x-two", "OK"),
    ("remove 2 foo", "OK"),
    ("get 2 foo", "NOT_FOUND"),
    ("remove 2 absent", "OK"),
    ("add 2 % v", "OK"),
    ("replace 2 % v", "OK"),
    ("pairs 2", "OK x-two=|connection=close|:status=200"),
)
asks(
    "http_resp_header.t 19-21",
    "`:status` can be set, but not to nothing, and not deleted",
    "response",
    ("replace 2 :status 501", "OK"),
    ("replace 2 :status %", "BAD_ARGUMENT"),
    ("remove 2 :status", "BAD_ARGUMENT"),
    ("get 2 :status", "OK 501"),
)

# --- bodies

SLICES = {
    "0 2": "he",
    "1 1": "e",
    "1 2": "el",
    "0 10": "helloworld",
    "1 9": "elloworld",
    "8 2": "ld",
    "9 1": "d",
    "1 10": "elloworld",
}
WRONG = ("4294967295 2", "1 0", "1 4294967295", "10 2")
SIDES = (("request", "http_req_body.t 3, 4", 0), ("response", "http_resp_body.t 4, 5", 1))
for name, file, buffer in SIDES:

    @case(file, f"slices of a {name} body; nothing, less than nothing and what begins behind the end are BadArgument")
    def _(stage: Stage, name: str = name, buffer: int = buffer) -> None:
        word = "req" if name == "request" else "resp"
        asks_for = f"{name}_headers set_property wasm_process_{word}_body true"
        reads = (*SLICES, *WRONG)
        case_ = stage.open(asks_for, *(f"{name}_body buffer {buffer} {read}" for read in reads))
        lines = play(case_, b"helloworld", back=(b"helloworld",))
        expected = ["OK", *(f"OK {slice_}" for slice_ in SLICES.values()), *["BAD_ARGUMENT"] * len(WRONG)]
        stage.expect(answers(lines), expected)


@case("http_resp_body.t 1-3", "pieces of a response and its end, which may be empty: then reading is NotFound")
def _(stage: Stage) -> None:
    case_ = stage.open("request_headers set_property wasm_process_resp_body 1", "response_body#3 buffer 1 0 9")
    lines = play(case_, back=(b"hell", b"oworl", b""))
    told = [line for line in lines if line.startswith(("response_body", "buffer"))]
    stage.expect(told, ["response_body 2 4 0", "response_body 2 5 0", "response_body 2 0 1", "buffer: NOT_FOUND"])


@case("http_resp_body.t", "the buffer of the request's body is that of the response's there")
def _(stage: Stage) -> None:
    case_ = stage.open("request_headers set_property wasm_process_resp_body 1", "response_body buffer 0 0 9")
    stage.expect(answers(play(case_, b"request", back=(b"response",))), ["OK", "OK response"])


# --- properties

asks(
    "property.t 1",
    "nginx's variables by their names",
    "request",
    ("property plugin_root_id", "OK p"),
    ("property scheme", "OK http"),
    ("property host", "OK localhost"),
    ("property uri", "OK /t"),
    ("property arg_a", "OK b"),
    ("property request_uri", "OK /t?a=b"),
    ("property http_x_api", "OK foo"),
    ("property remote_addr", "OK 192.0.2.7"),
    ("property server_port", "OK 9080"),
    ("property request_method", "OK GET"),
    ("property HOST", "OK localhost"),
)
asks(
    "property.t 2, 4, 5",
    "an unknown one is NotFound, one that cannot be changed InternalFailure",
    "request",
    ("property absent", "NOT_FOUND"),
    ("property arg_absent", "NOT_FOUND"),
    ("set_property host other", "INTERNAL_FAILURE"),
    ("set_property absent v", "NOT_FOUND"),
    ("property absent", "NOT_FOUND"),
)
asks(
    "property.t",
    "the ABI's own paths as well",
    "request",
    ("property request%00path", "OK /t?a=b"),
    ("property source%00port", "OK P%c3%00%00%00%00%00%00"),
)
