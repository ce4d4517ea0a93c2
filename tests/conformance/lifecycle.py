"""Contexts, their beginning and end, and the arguments of callbacks."""

from __future__ import annotations

from tests.conformance.stage import REQUEST, RESPONSE, Stage, answers, without_answers
from tests.conformance.table import FIRST, LATER, TABLE
from tests.support.chain import bind, snapshot

asks, case = TABLE.asks, TABLE.case
CREATE, START, CONFIGURE = "proxy_on_context_create", "proxy_on_vm_start", "proxy_on_configure"
DONE, LOG, DELETE, TICK = "proxy_on_done", "proxy_on_log", "proxy_on_delete", "proxy_on_tick"
ENDS = ["done 2", "log 2", "delete 2"]


def head(name: str, count: int, eos: bool, stage: Stage) -> str:
    return f"{name}_headers 2 {count}" + ("" if stage.short else f" {int(eos)}")


@case(CREATE, "a plugin context with parent 0, then on_vm_start and on_configure; a stream with its plugin context as parent")
def _(stage: Stage) -> None:
    lines = without_answers(stage.open().request())
    stage.expect(
        lines[:5],
        ["context_create 1 0", "vm_start 1 0", "configure 1 0", "context_create 2 1", head("request", 4, True, stage)],
    )


@case(CREATE, "two plugins have a stream context each, on every request; ids of ended streams are used again")
def _(stage: Stage) -> None:
    bindings = [stage.bind("a"), stage.bind("b")]
    for _round in range(2):
        case_ = stage.worker.open(*bindings)
        lines = [line for line in case_.request() if "context_create 2" in line]
        stage.expect(lines, ["a context_create 2 1", "b context_create 2 1"])
        case_.finish()


@case(CREATE, "the id of a live stream is given to no other")
def _(stage: Stage) -> None:
    binding = stage.bind("p")
    lines = [line for _ in range(3) for line in stage.worker.open(binding).request() if line.startswith("context_create")]
    stage.expect(lines, ["context_create 1 0", "context_create 2 1", "context_create 3 1", "context_create 4 1"])


asks(CREATE, "plugin_root_id can be asked in it", "context_create property plugin_root_id", "OK p", "OK p")


@case(START, "false refuses the plugin: requests are answered with 503")
def _(stage: Stage) -> None:
    lines = stage.open("vm_start return 0").request()
    stage.expect("reply 503 wasm_fail_stream" in lines and "delete 1" in lines, True)


@case(CONFIGURE, "its size is that of the configuration, also when that is empty")
def _(stage: Stage) -> None:
    stage.expect([line for line in stage.open().request() if line.startswith("configure")], ["configure 1 0"])
    script = "configure log 2 x"
    stage.expect(
        [line for line in Stage(stage.engine, stage.version).open(script).request() if line.startswith("configure")],
        [f"configure 1 {len(script)}"],
    )


@case(CONFIGURE, "false refuses the plugin: requests are answered with 503")
def _(stage: Stage) -> None:
    lines = stage.open("configure return 0").request()
    stage.expect("reply 503 wasm_fail_stream" in lines and "delete 1" in lines, True)


@case(CONFIGURE, "false under fail_open lets requests pass")
def _(stage: Stage) -> None:
    lines = stage.open("configure return 0", policy="fail_open").request()
    stage.expect(lines[-1], "> GET /p HTTP/1.1|host: h")


# --- the ends of streams


@case(DONE, "once at the end of a stream, before on_log and on_delete")
def _(stage: Stage) -> None:
    stage.expect(stage.play()[-3:], ENDS)


@case(DONE, "false of a stream is ignored: it is deleted")
def _(stage: Stage) -> None:
    stage.expect(stage.play("done return 0")[-3:], ENDS)


@case(DONE, "of a plugin context that is not configured any more, and on_delete follows")
def _(stage: Stage) -> None:
    stage.open().request()
    stage.journal.take()
    other = Stage(stage.engine, stage.version)
    other.open().finish()
    other.worker.runtime.close()
    stage.expect(other.journal.take()[-2:], ["done 1", "delete 1"])


@case(LOG, "once, after a local reply too")
def _(stage: Stage) -> None:
    case_ = stage.open("request_headers reply 403 % % %", "log get 2 :status")
    case_.request()
    stage.expect(case_.finish(), ["done 2", "log 2", "get: OK 403", "delete 2"])


@case(LOG, "once, after a client left in the middle of its body")
def _(stage: Stage) -> None:
    case_ = stage.open()
    case_.chain.request_head(REQUEST, b"", False)
    case_.chain.request_body(b"half", False)
    stage.journal.take()
    stage.expect(case_.finish(), ENDS)


@case(LOG, "once, after a reset by the plugin")
def _(stage: Stage) -> None:
    case_ = stage.open("request_headers close 0")
    case_.request()
    stage.expect(case_.finish(), ["done 2", "log 2", "delete 2"])


@case(LOG, "for a plugin that a request did not reach since another one replied")
def _(stage: Stage) -> None:
    case_ = stage.chain(a="request_headers reply 403 % % %", b="log get 2 :status")
    case_.request(head=REQUEST)
    stage.expect(case_.finish()[-5:], ["b context_create 2 1", "b done 2", "b log 2", "b get: OK 403", "b delete 2"])


@case(LOG, "not after a trap: the VM is gone")
def _(stage: Stage) -> None:
    case_ = stage.open("request_headers trap")
    case_.request()
    stage.expect(case_.finish(), [])


@case(DELETE, "the last of a context; what was the plugin's configuration can still be read")
def _(stage: Stage) -> None:
    script = "delete buffer 7 0 6"
    stage.expect(stage.play(script)[-2:], ["delete 2", "buffer: OK delete"])


# --- heads and bodies


@case("proxy_on_request_headers", "the number of fields with pseudo-headers, and whether that is all", LATER)
def _(stage: Stage) -> None:
    stage.expect(stage.play()[4], "request_headers 2 8 0")
    stage.expect(
        [line for line in Stage(stage.engine, stage.version).open().request() if line.startswith("request_h")],
        ["request_headers 2 4 1"],
    )


@case("proxy_on_request_headers", "the number of fields with pseudo-headers, as the second and last argument", FIRST)
def _(stage: Stage) -> None:
    stage.expect(stage.play()[4], "request_headers 2 8")


@case("proxy_on_response_headers", "the number of fields with `:status`, and whether that is all", LATER)
def _(stage: Stage) -> None:
    stage.expect([line for line in stage.play() if line.startswith("response_h")], ["response_headers 2 3 0"])


@case("proxy_on_response_headers", "the number of fields with `:status`, as the second and last argument", FIRST)
def _(stage: Stage) -> None:
    stage.expect([line for line in stage.play() if line.startswith("response_h")], ["response_headers 2 3"])


for name in ("request", "response"):
    mark = ">" if name == "request" else "<"

    @case(f"proxy_on_{name}_body", "each piece with its size, and the end of the stream with the last")
    def _(stage: Stage, name: str = name) -> None:
        stage.expect(
            [line for line in stage.play() if line.startswith(f"{name}_body")], [f"{name}_body 2 5 0", f"{name}_body 2 5 1"]
        )

    @case(f"proxy_on_{name}_body", "the end may come with an empty piece")
    def _(stage: Stage, name: str = name) -> None:
        case_ = stage.open()
        lines = case_.request(b"hello", b"", head=REQUEST) + case_.response(b"hello", b"", head=RESPONSE)
        stage.expect([line for line in lines if line.startswith(f"{name}_body")], [f"{name}_body 2 5 0", f"{name}_body 2 0 1"])

    @case(
        f"proxy_on_{name}_body",
        "Pause holds the piece: the next call has the size of all that is held, and Continue lets it go",
    )
    def _(stage: Stage, name: str = name, mark: str = mark) -> None:
        case_ = stage.open(f"{name}_body#1 return 1")
        pieces = (b"hell", b"o wor", b"ld")
        lines = case_.request(*pieces, head=REQUEST) + case_.response(*pieces, head=RESPONSE)
        told = [line for line in lines if line.startswith((f"{name}_body", f"{mark} '"))]
        expected = [f"{name}_body 2 4 0", f"{name}_body 2 9 0", f"{mark} 'hello wor'", f"{name}_body 2 2 1", f"{mark} 'ld' eos"]
        stage.expect(told, expected)

    @case(f"proxy_on_{name}_body", "not called for a message without a body")
    def _(stage: Stage, name: str = name) -> None:
        case_ = stage.open()
        stage.expect([line for line in case_.request() + case_.response() if "_body" in line], [])

    @case(
        f"proxy_on_{name}_headers",
        "Pause holds the head and the body behind it; continue_stream lets them go, changed meanwhile",
    )
    def _(stage: Stage, name: str = name, mark: str = mark) -> None:
        number, map_type = (0, 0) if name == "request" else (1, 2)
        script = ("tick effective 2", f"tick add {map_type} late yes", f"tick continue {number}", "configure tick_period 1000")
        case_ = stage.open(f"{name}_headers return 1", *script)
        lines = case_.request(b"hello", head=REQUEST) + (case_.response(b"hello", head=RESPONSE) if number else [])
        stage.expect([line for line in lines if line.startswith((f"{mark} ", f"{name}_body"))], [])
        stage.worker.loop.advance(1)
        lines = [line for line in stage.journal.take() if line.startswith((f"{mark} ", f"{name}_body"))]
        stage.expect((lines[0].endswith("|late: yes"), lines[1:]), (True, [f"{name}_body 2 5 1", f"{mark} 'hello' eos"]))


@case("proxy_on_request_headers", "plugins in the chain's order; in the response backwards")
def _(stage: Stage) -> None:
    case_ = stage.chain(a="", b="", c="")
    lines = [line for line in case_.request(head=REQUEST) + case_.response(head=RESPONSE) if "_headers" in line]
    stage.expect([line.split()[0] for line in lines], ["a", "b", "c", "c", "b", "a"])


@case("proxy_on_request_headers", "a plugin behind a paused one waits, and sees what that one wrote")
def _(stage: Stage) -> None:
    waits = (
        "request_headers return 1",
        "configure tick_period 1000",
        "tick effective 2",
        "tick add 0 late yes",
        "tick continue 0",
    )
    case_ = stage.chain(a=waits, b="request_headers get 0 late")
    stage.expect([line for line in case_.request(head=REQUEST) if line.startswith("b request")], [])
    stage.worker.loop.advance(1)
    stage.expect([line for line in stage.journal.take() if line.startswith("b get")], ["b get: OK yes"])


for action in (2, 3, 4, 99):

    @case("proxy_on_request_headers", f"an action of {action} holds the head, as Pause does")
    def _(stage: Stage, action: int = action) -> None:
        stage.expect([line for line in stage.open(f"request_headers return {action}").request() if line[0] == ">"], [])


# --- timers

SET_TICK = "proxy_set_tick_period_milliseconds"
asks(
    SET_TICK,
    "Ok in any callback, for its plugin context",
    ("configure tick_period 5000", "request_headers tick_period 0"),
    "OK",
    "OK",
)


@case(TICK, "after each period, which begins when the callback has returned")
def _(stage: Stage) -> None:
    stage.open("configure tick_period 1000").request()
    stage.journal.take()
    stage.worker.loop.advance(3.5)
    stage.expect(stage.journal.take(), ["tick 1"] * 3)


@case(SET_TICK, "a new period takes the old one's place")
def _(stage: Stage) -> None:
    stage.open("configure tick_period 1000", "tick#1 tick_period 10000").request()
    stage.journal.take()
    stage.worker.loop.advance(12)
    stage.expect(without_answers(stage.journal.take()), ["tick 1"] * 2)


@case(SET_TICK, "0 ends the ticks")
def _(stage: Stage) -> None:
    stage.open("configure tick_period 1000", "tick#2 tick_period 0").request()
    stage.journal.take()
    stage.worker.loop.advance(10)
    stage.expect(without_answers(stage.journal.take()), ["tick 1"] * 2)


@case(TICK, "two plugin contexts of one VM tick on their own")
def _(stage: Stage) -> None:
    plugin = stage.bind("p").plugin
    for owner, period in (("route/1", 1000), ("route/2", 1500)):
        stage.worker.open(bind(plugin, f"configure tick_period {period}", owner=owner)).request()
    stage.journal.take()
    stage.worker.loop.advance(3.1)
    stage.expect(sorted(stage.journal.take()), ["tick 1", "tick 1", "tick 1", "tick 3", "tick 3"])


# --- proxy_done and the effective context

EFFECTIVE, PROXY_DONE = "proxy_set_effective_context", "proxy_done"
asks(
    PROXY_DONE,
    "NotFound unless on_done of this plugin context answered false",
    ("configure proxy_done", "request_headers proxy_done", "done proxy_done"),
    *["NOT_FOUND"] * 3,
)


@case(PROXY_DONE, "ends a plugin context that waits for it; until then it ticks")
def _(stage: Stage) -> None:
    binding = stage.bind("p", "done#1 return 0", "configure tick_period 1000", "tick#2 proxy_done")
    case_ = stage.worker.open(binding)
    case_.request()
    stage.worker.runtime.sync(snapshot())
    case_.finish()
    stage.journal.take()
    stage.worker.loop.advance(0.1)
    stage.expect(stage.journal.take(), [])
    stage.worker.loop.advance(5)
    stage.expect(stage.journal.take(), ["tick 1", "tick 1", "proxy_done: OK", "delete 1"])


asks(
    EFFECTIVE,
    "of an unknown context BadArgument",
    ("request_headers effective 77", "request_headers effective 0"),
    "BAD_ARGUMENT",
    "BAD_ARGUMENT",
)


@case(EFFECTIVE, "later host calls of this callback are for that context, the next callback is for its own")
def _(stage: Stage) -> None:
    script = ("configure tick_period 1000", "tick get 0 x-one", "tick effective 2", "tick get 0 x-one")
    case_ = stage.open("request_headers return 1", *script)
    case_.request(head=REQUEST)
    stage.worker.loop.advance(2)
    lines = answers(stage.journal.take())
    stage.expect(lines, ["NOT_FOUND", "OK", "OK 1"] * 2)


@case(EFFECTIVE, "a stream that has ended is unknown")
def _(stage: Stage) -> None:
    case_ = stage.open("configure tick_period 1000", "tick effective 2")
    case_.request()
    case_.finish()
    stage.worker.loop.advance(1)
    stage.expect(answers(stage.journal.take()), ["BAD_ARGUMENT"])
