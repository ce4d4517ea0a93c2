"""The cases of APISIX and of its Wasm module, by their files and numbers, in the dialect `apisix`.

Left out is what shows a flaw there (setting `:authority` overwrites the method, a `:path` without its slash, a second call at
once is refused) and what is nginx's own (temporary files, reloads, variables of its configuration). What the Admin API refuses
is in its own tests.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.proxy_wasm.abi import AbiVersion, Effect
from shared.proxy_wasm.vm import VmSettings
from tests.conformance.calls import HEAD as CALL_HEAD
from tests.conformance.calls import Performer
from tests.conformance.stage import DEFINES, Stage, answers, without_answers
from tests.conformance.table import TABLE
from tests.support.chain import Case, bind, snapshot
from tests.support.guest import Guest, console, open_stream

# The version of the SDK that APISIX's cases are built with.
VERSIONS = (AbiVersion.V0_2_0,)
HEAD = b"GET /t?a=b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API: foo\r\nx-two: 1\r\nx-two: 2\r\n"
PSEUDO = ":scheme=http|:path=/t?a=b|:method=GET|:authority=localhost"
ANSWER = b"HTTP/1.1 200 OK\r\nfoo: bar\r\nx-two: 1\r\nx-two: 2\r\nConnection: close\r\n"

Act = Callable[[Stage], None]


def case(file: str, behaviour: str) -> Callable[[Act], Act]:
    def add(act: Act) -> Act:
        def acted(stage: Stage) -> None:
            stage.dialect = "apisix"
            act(stage)

        TABLE.case(f"APISIX {file}", behaviour, VERSIONS)(acted)
        return act

    return add


def play(case_: Case, *pieces: bytes, head: bytes = HEAD, answer: bytes = ANSWER, back: tuple[bytes, ...] = ()) -> list[str]:
    lines = case_.request(*pieces, head=head)
    return lines + case_.response(*back, head=answer) + case_.finish()


def asks(file: str, behaviour: str, at: str, *asked: tuple[str, str]) -> None:
    """In the headers of a request or a response, commands and their answers."""

    @case(file, behaviour)
    def _(stage: Stage) -> None:
        lines = play(stage.open(*(f"{at}_headers {command}" for command, _ in asked)))
        stage.expect(answers(lines), [answer for _, answer in asked])


# --- t/wasm of APISIX: which contexts there are, and what four plugins do


def pairs_of_contexts(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("request_headers", "a request_headers", "b request_headers"))]


@case("route.t 6, 7", "two plugins of one route have the contexts (1, 2) each, and run by their priority")
def _(stage: Stage) -> None:
    lines = play(stage.chain(a="", b=""))
    stage.expect(
        [line.split()[:3] for line in pairs_of_contexts(lines)], [["a", "request_headers", "2"], ["b", "request_headers", "2"]]
    )


@case("route.t 9, 11", "two routes of one service, asked in turn: (1, 2), (3, 4), (1, 2), (3, 4)")
def _(stage: Stage) -> None:
    plugin = stage.bind("p").plugin
    bindings = [bind(plugin, owner=f"route/{number}") for number in (1, 2)]
    lines = [line for _ in range(2) for binding in bindings for line in play(stage.worker.open(binding))]
    stage.expect([line.split()[1] for line in lines if line.startswith("request_headers")], ["2", "4", "2", "4"])
    created = [line for line in lines if line.startswith("context_create")]
    stage.expect(created[:4], ["context_create 1 0", "context_create 2 1", "context_create 3 0", "context_create 4 3"])


@case("global-rule.t 2, 4", "a global rule and a route with one plugin: contexts (1, 2) and (3, 4)")
def _(stage: Stage) -> None:
    plugin = stage.bind("p").plugin
    lines = play(stage.worker.open(bind(plugin, owner="global_rule/1"), bind(plugin, owner="route/1")))
    stage.expect([line.split()[1] for line in lines if line.startswith("request_headers")], ["2", "4"])


@case("fault-injection.t 2, 8", "a local response of 401 with its body")
def _(stage: Stage) -> None:
    lines = stage.open("request_headers reply 401 % HIT%0a %").request()
    stage.expect(
        [line for line in lines if line.startswith("<")], ["< HTTP/1.1 401 Reply|content-type: text/plain", "< 'HIT\\n' eos"]
    )


@case("fault-injection.t 6, http_send_response.t 2", "one without a body: nginx's page of that status")
def _(stage: Stage) -> None:
    lines = [line for line in stage.open("request_headers reply 401 % % %").request() if line.startswith("<")]
    stage.expect(lines[0], "< HTTP/1.1 401 Reply|content-type: text/html; charset=utf-8")
    stage.expect("<title>401 Authorization Required</title>" in lines[1], True)


@case("http_send_response.t 1, 3", "a response with headers, a repeated one too")
def _(stage: Stage) -> None:
    lines = stage.open("request_headers reply 403 % should%20not%20pass % hello=spacewander hello=world").request()
    expected = "< HTTP/1.1 403 Reply|content-type: text/plain|hello: spacewander|hello: world"
    stage.expect([line for line in lines if line.startswith("<")], [expected, "< 'should not pass' eos"])


ASKED = "request_headers set_property wasm_process_req_body true"


@case("request-body.t 2", "a plugin that asked for the request's body gets it, once and as a whole")
def _(stage: Stage) -> None:
    lines = stage.open(ASKED, "request_body buffer 0 1 3").request(b"hel", b"lo", head=HEAD)
    stage.expect(
        [line for line in lines if "body" in line or line.startswith(("buffer", "> '"))],
        ["request_body 2 5 1", "buffer: OK ell", "> 'hello' eos"],
    )


@case("request-body.t", "trailers of a request hide no part of its body")
def _(stage: Stage) -> None:
    case_ = stage.open(ASKED, "request_body buffer 0 0 9")
    case_.chain.request_head(HEAD, b"", False)
    case_.chain.request_body(b"hel", False)
    case_.chain.request_body(b"lo", False)
    case_.chain.request_trailers(b"a: b\r\n")
    lines = [line for line in case_.journal.take() if "request_body" in line or line.startswith(("buffer", "> '", "> tr"))]
    stage.expect(lines, ["request_body 2 5 1", "buffer: OK hello", "> 'hello'", "> trailers a: b"])


@case("request-body.t", "a body that trailers end is answered for")
def _(stage: Stage) -> None:
    case_ = stage.open(ASKED, "request_body reply 403 % % %")
    case_.chain.request_head(HEAD, b"", False)
    case_.chain.request_body(b"bad", False)
    case_.chain.request_trailers(b"a: b\r\n")
    lines = case_.journal.take()
    stage.expect([line for line in lines if line.startswith(("> '", "> tr"))], [])
    stage.expect("reply 403" in lines, True)


@case("request-body.t 3", "an empty body: size 0, and reading it is NotFound")
def _(stage: Stage) -> None:
    lines = stage.open(ASKED, "request_body buffer 0 1 3").request(b"", head=HEAD)
    stage.expect(
        [line for line in lines if line.startswith(("request_body", "buffer"))], ["request_body 2 0 1", "buffer: NOT_FOUND"]
    )


@case("request-body.t 5", "a plugin that did not ask gets none, and the body passes")
def _(stage: Stage) -> None:
    lines = stage.open().request(b"hel", b"lo", head=HEAD)
    stage.expect([line for line in lines if "body" in line or line.startswith("> '")], ["> 'hel'", "> 'lo' eos"])


@case("request-body.t 7", "each plugin asks for itself")
def _(stage: Stage) -> None:
    lines = stage.chain(a=ASKED, b="").request(b"hello", head=HEAD)
    stage.expect([line for line in lines if "request_body" in line], ["a request_body 2 5 1"])


@case("response-rewrite.t 2", "fields of the response")
def _(stage: Stage) -> None:
    case_ = stage.open("response_headers replace 2 x-wasm apisix")
    case_.request(head=HEAD)
    stage.expect(case_.response(head=ANSWER)[-1].endswith("x-wasm: apisix"), True)


@case("response-rewrite.t 4, 6", "a plugin that asked for the response's body gets each piece; another does not")
def _(stage: Stage) -> None:
    case_ = stage.chain(a="response_headers set_property wasm_process_resp_body true", b="")
    case_.request(head=HEAD)
    lines = case_.response(b"hello ", b"world", head=ANSWER)
    stage.expect([line for line in lines if "_body" in line], ["a response_body 2 6 0", "a response_body 2 5 1"])


# --- the module's lifecycle


@case("plugin_lifecycle.t 4, 5", "ids of plugin contexts count up, and those of deleted ones come again")
def _(stage: Stage) -> None:
    guest = Guest(stage.engine, console(*DEFINES[stage.version]), VmSettings("p", dialect="apisix"))
    roots = [guest.vm.create_root(b"conf") for _ in range(3)]
    stage.expect([root.id for root in roots], [1, 2, 3])
    for root in roots[:2]:
        root.delete()
    stage.expect([guest.vm.create_root(b"conf").id for _ in range(2)], [1, 2])
    guest.vm.close()


@case("http_lifecycle.t 1, 6", "one stream context for all callbacks of a request, deleted once")
def _(stage: Stage) -> None:
    lines = play(stage.open())
    stage.expect(
        [line for line in lines if line[0] not in "<>" and (line.endswith(" 2") or " 2 " in line)],
        ["context_create 2 1", "request_headers 2 8 1", "response_headers 2 5 1", "done 2", "log 2", "delete 2"],
    )


@case("http_lifecycle.t 2", "a stream is deleted before its plugin context")
def _(stage: Stage) -> None:
    binding = stage.bind("p")
    case_ = stage.worker.open(binding)
    case_.request(head=HEAD)
    stage.worker.runtime.sync(snapshot())
    stage.journal.take()
    stage.expect([line for line in case_.finish() if line.startswith("delete")], ["delete 2", "delete 1"])


@case("http_lifecycle.t 7", "a trap in response headers is logged, and the response continues")
def _(stage: Stage) -> None:
    case_ = stage.open("response_headers trap")
    case_.request(head=HEAD)
    stage.expect([line[:17] for line in case_.response(head=ANSWER) if line.startswith("<")], ["< HTTP/1.1 200 OK"])


@case("http_lifecycle.t 8", "the plugin context stays, the stream has the next free id")
def _(stage: Stage) -> None:
    binding = stage.bind("p")
    cases = [stage.worker.open(binding) for _ in range(2)]
    lines = [line for case_ in cases for line in case_.request(head=HEAD)]
    stage.expect([line.split()[1] for line in lines if line.startswith("request_headers")], ["2", "3"])


@case("log.t 1", "messages of every level from debug on reach the log at their levels")
def _(stage: Stage) -> None:
    lines = play(stage.open(*(f"request_headers log {level} level{level}" for level in (5, 4, 3, 2))))
    stage.expect([line for line in lines if line.startswith("level")], ["level5", "level4", "level3", "level2"])


# --- calls: a request waits for them


class Waiting(Performer):
    holds_requests = True


class Caller:
    def __init__(self, stage: Stage, *script: str) -> None:
        self.performer = Waiting()
        settings = VmSettings("p", dialect="apisix")
        self.guest = Guest(stage.engine, console(*DEFINES[stage.version]), settings, self.performer)
        self.root = self.guest.root(*script)
        self.stream = open_stream(self.root)
        self.outcome = self.stream.request_headers(CALL_HEAD, True)

    @property
    def waits(self) -> bool:
        return self.outcome is not None and not isinstance(self.outcome, bytes) and self.outcome.paused

    def respond(self, number: int = 0) -> int:
        """What the answer did to the stream."""
        self.guest.recorder.told.clear()
        self.performer.calls[number].respond(((b":status", b"200"), (b"foo", b"bar"), (b"foo", b"baz")), b"", ())
        told = self.guest.recorder.told
        return told[-1][1].effects if told else 0


ASK = "http_call auth 500 % % :method=GET :path=/a :authority=b"


@case(
    "forward-auth.t 2, http_call.t 3",
    "a request waits for its call although its callback answered Continue, and goes on after it",
)
def _(stage: Stage) -> None:
    caller = Caller(stage, f"request_headers {ASK}", "http_call_response effective 2", "http_call_response add 0 x-user me")
    stage.expect(caller.waits, True)
    stage.expect(bool(caller.respond() & Effect.CONTINUE_REQUEST), True)
    caller.guest.vm.close()


@case("forward-auth.t 4, http_call_callback.t 7", "the callback answers the request")
def _(stage: Stage) -> None:
    caller = Caller(stage, f"request_headers {ASK}", "http_call_response effective 2", "http_call_response reply 503 % % %")
    stage.expect(bool(caller.respond() & Effect.LOCAL_REPLY), True)
    caller.guest.vm.close()


@case("http_call.t 6", "a call and a local response in one callback: the call goes first, and the response is dropped")
def _(stage: Stage) -> None:
    caller = Caller(stage, "request_headers reply 403 % % %", f"request_headers {ASK}")
    stage.expect(caller.waits, True)
    stage.expect(caller.respond() & (Effect.CONTINUE_REQUEST | Effect.LOCAL_REPLY), Effect.CONTINUE_REQUEST)
    caller.guest.vm.close()


@case("http_call_callback.t 1, 2", "the callback's fields, repeated ones kept and `:status` last; no body is NotFound")
def _(stage: Stage) -> None:
    caller = Caller(stage, f"request_headers {ASK}", "http_call_response pairs 6", "http_call_response buffer 4 0 9")
    caller.guest.take()
    caller.respond()
    lines = caller.guest.take()
    stage.expect(
        (without_answers(lines)[0].split()[3:], answers(lines)),
        (["3", "0", "0"], ["OK foo=bar|foo=baz|:status=200", "NOT_FOUND"]),
    )
    caller.guest.vm.close()


@case("http_call_callback.t 8, 9", "a call after a call, and a response after the last")
def _(stage: Stage) -> None:
    chain = ("http_call_response#1", "http_call_response#2")
    last = ("http_call_response#3 effective 2", "http_call_response#3 reply 401 % % %")
    caller = Caller(stage, f"request_headers {ASK}", *(f"{at} {step}" for at in chain for step in ("effective 2", ASK)), *last)
    stage.expect([bool(caller.respond(number) & Effect.LOCAL_REPLY) for number in range(3)], [False, False, True])
    caller.guest.vm.close()
