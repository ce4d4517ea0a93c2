"""Header maps: reading and changing them, while they may be changed and when they may not."""

from __future__ import annotations

from tests.conformance.stage import REQUEST, Stage, answers
from tests.conformance.table import FIRST, LATER, TABLE

asks, case = TABLE.asks, TABLE.case

PAIRS = ":authority=example.com|:path=/p?q=1|:method=POST|:scheme=http|x-one=1|x-two=a|x-two=b|empty="
PAIRS_SIZE = 4 + sum(8 + len(field) - 1 + 2 for field in PAIRS.split("|"))

# --- one value

GET = "proxy_get_header_map_value"
asks(GET, "the value of a name, in any case", ("request_headers get 0 x-one", "request_headers get 0 X-ONE"), "OK 1", "OK 1")
asks(GET, "the first of several values", "request_headers get 0 x-two", "OK a")
asks(GET, "an empty value is Ok with a null pointer", "request_headers get 0 empty", "OK")
asks(GET, "an absent name is NotFound", "request_headers get 0 absent", "NOT_FOUND", versions=LATER)
asks(GET, "an absent name is Ok and empty", "request_headers get 0 absent", "OK", versions=FIRST)
asks(GET, "an empty name is in no map: NotFound", "request_headers get 0 %", "NOT_FOUND", versions=LATER)
asks(
    GET,
    "pseudo-headers of a request; `:path` has the query",
    tuple(f"request_headers get 0 {name}" for name in (":method", ":path", ":authority", ":scheme")),
    *("OK POST", "OK /p?q=1", "OK example.com", "OK http"),
)
asks(GET, "`host` is `:authority`", "request_headers get 0 host", "OK example.com")
asks(GET, "`:status` of a response", "response_headers get 2 :status", "OK 200")
asks(GET, "response headers are NotFound in the request", "request_headers get 2 x", "NOT_FOUND")
asks(GET, "request headers stay readable in the response", "response_headers get 0 x-one", "OK 1")
asks(
    GET,
    "request and response headers are readable in on_done and on_log",
    ("done get 0 x-one", "done get 2 server", "log get 0 :path", "log get 2 :status"),
    *("OK 1", "OK up", "OK /p?q=1", "OK 200"),
)
asks(GET, "in a plugin context NotFound", "configure get 0 x-one", "NOT_FOUND")
asks(
    GET,
    "maps of calls are NotFound outside of them",
    tuple(f"request_headers get {k} a" for k in (4, 5, 6, 7)),
    *["NOT_FOUND"] * 4,
)
asks(GET, "an unknown map is BadArgument", "request_headers get 8 a", "BAD_ARGUMENT")


@case(GET, "bytes that are no UTF-8 come as they are")
def _(stage: Stage) -> None:
    request = stage.open("request_headers get 0 a").request(head=b"GET / HTTP/1.1\r\nhost: h\r\na: \xe9\xff\r\n")
    stage.expect(answers(request), ["OK %e9%ff"])


# --- all values

ALL_PAIRS, SIZE, SET = "proxy_get_header_map_pairs", "proxy_get_header_map_size", "proxy_set_header_map_pairs"
asks(ALL_PAIRS, "every field in order, repeated ones kept, pseudo-headers first", "request_headers pairs 0", f"OK {PAIRS}")
asks(ALL_PAIRS, "response headers, `:status` first", "response_headers pairs 2", "OK :status=200|server=up|x-one=1")
asks(ALL_PAIRS, "a map that is not there is Ok with a null pointer", "request_headers pairs 2", "OK null")
asks(
    ALL_PAIRS,
    "both maps are readable in on_log",
    ("log pairs 0", "log pairs 2"),
    f"OK {PAIRS}",
    "OK :status=200|server=up|x-one=1",
)
asks(ALL_PAIRS, "an unknown map is BadArgument", "request_headers pairs 8", "BAD_ARGUMENT")
asks(SIZE, "the size of the serialized map", "request_headers size 0", f"OK {PAIRS_SIZE}")
asks(SIZE, "a map that is not there has size 0", "request_headers size 2", "OK 0")
asks(SIZE, "an unknown map is BadArgument", "request_headers size 8", "BAD_ARGUMENT")


@case(ALL_PAIRS, "a thousand fields")
def _(stage: Stage) -> None:
    head = b"GET / HTTP/1.1\r\nhost: h\r\n" + b"".join(b"a%d: %d\r\n" % (k, k) for k in range(1000))
    (count,) = [line for line in stage.open("request_headers get 0 a999").request(head=head) if line.startswith("get")]
    stage.expect(count, "get: OK 999")


def upstream(stage: Stage, *commands: str) -> list[str]:
    """The head that reaches the upstream, in lines, after the commands have run in the request's headers."""
    lines = stage.open(*(f"request_headers {command}" for command in commands)).request(head=REQUEST)
    (head,) = [line for line in lines if line.startswith("> ")]
    return head[2:].split("|")


def leaves(subject: str, behaviour: str, commands: tuple[str, ...], *expected: str) -> None:
    def act(stage: Stage) -> None:
        stage.expect(upstream(stage, *commands), ["POST /p?q=1 HTTP/1.1", "host: example.com", *expected])

    case(subject, behaviour)(act)


REST = ("x-two: a", "x-two: b", "empty: ")
leaves(
    SET,
    "takes the place of the whole map, repeated fields in order",
    ("set 0 :method=POST :path=/p?q=1 :authority=example.com :scheme=http a=1 b=2 a=3",),
    "a: 1",
    "b: 2",
    "a: 3",
)
asks(
    SET,
    "malformed bytes are BadArgument and change nothing",
    ("request_headers set_raw 0 %02%00%00%00a", "request_headers get 0 x-one"),
    "BAD_ARGUMENT",
    "OK 1",
)
asks(SET, "a name or a value that HTTP does not allow is BadArgument", "request_headers set 0 a=b%0d%0ac", "BAD_ARGUMENT")
asks(
    SET,
    "nothing, one zero byte and a zero count are the empty map",
    (
        *(f"response_headers set_raw 2 {raw}" for raw in ("%", "%00", "%00%00%00%00")),
        "response_headers pairs 2",
        "response_headers add 2 :status 200",
    ),
    "OK",
    "OK",
    "OK",
    "OK ",
    "OK",
)
asks(SET, "a map that may not be changed now is BadArgument", "response_headers set 0 a=b", "BAD_ARGUMENT")
asks(SET, "an unknown map is BadArgument", "request_headers set 8 a=b", "BAD_ARGUMENT")

# --- changing one

ADD, REPLACE, REMOVE = "proxy_add_header_map_value", "proxy_replace_header_map_value", "proxy_remove_header_map_value"
leaves(ADD, "adds another value, which leaves on a line of its own", ("add 0 x-one 2",), "x-one: 1", *REST, "x-one: 2")
leaves(ADD, "a name leaves in lower case", ("add 0 X-New v",), "x-one: 1", *REST, "x-new: v")
leaves(ADD, "an empty value is a value", ("add 0 x-new %",), "x-one: 1", *REST, "x-new: ")
leaves(REPLACE, "puts one value in the place of all", ("replace 0 X-Two c",), "x-one: 1", "x-two: c", "empty: ")
leaves(REPLACE, "adds the name when it is absent", ("replace 0 x-new v",), "x-one: 1", *REST, "x-new: v")
leaves(REPLACE, "an empty value keeps the name", ("replace 0 x-one %",), "x-one: ", *REST)
leaves(REMOVE, "removes every value", ("remove 0 X-TWO",), "x-one: 1", "empty: ")
leaves(REMOVE, "an absent name is Ok", ("remove 0 absent", "remove 0 x-one"), *REST)


@case(REPLACE, "`:method`, `:path` and `:authority` are the request that leaves")
def _(stage: Stage) -> None:
    head = upstream(stage, "replace 0 :method PUT", "replace 0 :path /other?a=b", "replace 0 :authority else.where")
    stage.expect(head[:2], ["PUT /other?a=b HTTP/1.1", "host: else.where"])


@case(REPLACE, "`host` is `:authority`")
def _(stage: Stage) -> None:
    stage.expect(upstream(stage, "replace 0 Host else.where")[:2], ["POST /p?q=1 HTTP/1.1", "host: else.where"])


@case(REPLACE, "`:status` is the response that leaves")
def _(stage: Stage) -> None:
    case_ = stage.open("response_headers replace 2 :status 418")
    case_.request()
    stage.expect(case_.response()[-1].split("|")[0][:16], "< HTTP/1.1 418 ")


@case(REMOVE, "a request without `:path` is answered with 500, and nothing fails")
def _(stage: Stage) -> None:
    lines = stage.open("request_headers remove 0 :path").request(head=REQUEST)
    stage.expect("reply 500 wasm_incomplete_head" in lines, True)


for subject, word, more in ((ADD, "add", " v"), (REPLACE, "replace", " v"), (REMOVE, "remove", "")):
    asks(subject, "an unknown map is BadArgument", f"request_headers {word} 8 a{more}", "BAD_ARGUMENT")
    asks(subject, "response headers are BadArgument in the request", f"request_headers {word} 2 a{more}", "BAD_ARGUMENT")
    asks(subject, "a request that has gone on is BadArgument", f"response_headers {word} 0 a{more}", "BAD_ARGUMENT")
    asks(subject, "in on_log BadArgument", f"log {word} 2 a{more}", "BAD_ARGUMENT")
    asks(subject, "in a plugin context BadArgument", f"configure {word} 0 a{more}", "BAD_ARGUMENT")
    asks(
        subject,
        "maps of calls are read-only: BadArgument",
        tuple(f"request_headers {word} {k} a{more}" for k in (4, 5, 6, 7)),
        *["BAD_ARGUMENT"] * 4,
    )

for subject, word in ((ADD, "add"), (REPLACE, "replace")):
    asks(
        subject,
        "CR, LF or NUL in a value, and a name that is no token, are BadArgument",
        tuple(f"request_headers {word} 0 {field}" for field in ("a b%0dc", "a b%0ac", "a b%00c", "a%20b c", "% c")),
        *["BAD_ARGUMENT"] * 5,
    )
    asks(
        subject,
        "a `:path` with space and a `:status` that is none are BadArgument",
        (
            f"request_headers {word} 0 :path a%0d%0aa",
            f"response_headers {word} 2 :status %",
            f"response_headers {word} 2 :status 99",
        ),
        *["BAD_ARGUMENT"] * 3,
    )
