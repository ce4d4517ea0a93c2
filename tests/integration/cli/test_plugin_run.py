"""`waspgate plugin run`: transcripts, cases from files and lines, comparisons and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Waspgate
from tests.support.guest import console

CONF = '{"value": "hello", "reply_path": "/no", "reply_body": "no!"}'

EXPECTED = """\
# start

proxy_on_context_create(context=1, parent=0)
proxy_on_configure(context=1, configuration_size=60)
    proxy_get_buffer_bytes(buffer=PLUGIN_CONFIGURATION, start=0, max_size=60) -> OK, data=<CONF>
    -> true

# request 1: POST /x

proxy_on_context_create(context=2, parent=1)
proxy_on_request_headers(context=2, headers=6, end_of_stream=false)
    proxy_get_header_map_value(map=REQUEST_HEADERS, key=":path") -> OK, value="/x"
    -> CONTINUE
the upstream got the request
proxy_on_response_headers(context=2, headers=3, end_of_stream=false)
    proxy_replace_header_map_value(map=RESPONSE_HEADERS, key="x-greeting", value="hello") -> OK
    -> CONTINUE
proxy_on_delete(context=2)

the upstream got:
    POST /x
    host: a.test
    accept: */*

    two
    lines

the client got:
    201
    server: up
    x-greeting: hello

    made

# request 2: GET /no

proxy_on_context_create(context=2, parent=1)
proxy_on_request_headers(context=2, headers=4, end_of_stream=true)
    proxy_get_header_map_value(map=REQUEST_HEADERS, key=":path") -> OK, value="/no"
    proxy_send_local_response(status=403, details="greeting", body="no!", headers={}, grpc_status=-1) -> OK
    -> PAUSE
the plugin sent a local response
proxy_on_response_headers(context=2, headers=3, end_of_stream=false)
    proxy_replace_header_map_value(map=RESPONSE_HEADERS, key="x-greeting", value="hello") -> OK
    -> CONTINUE
proxy_on_delete(context=2)

the upstream got nothing

the client got:
    403
    content-type: text/plain
    x-greeting: hello

    no!

# end

proxy_on_delete(context=1)
"""

CASE = """
[[requests]]
method = "POST"
path = "/x"
authority = "a.test"
headers = { accept = "*/*" }
body = "two\\nlines"
response = { status = 201, headers = [["server", "up"]], body = "made" }

[[requests]]
path = "/no"
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    path = tmp_path / "case.toml"
    path.write_text(CASE)
    return path


def test_a_case_is_run_kept_and_compared(waspgate: Waspgate, greeting: Path, case: Path, tmp_path: Path) -> None:
    kept = tmp_path / "expected.txt"
    run = ("plugin", "run", greeting, "--conf", CONF, "--request", case, "--expect", kept)
    ended = waspgate(*run)
    assert ended.status == 2
    assert "--update writes it" in ended.err
    assert waspgate(*run, "--update").out == f"wrote {kept}\n"
    escaped = CONF.replace('"', '\\"')
    assert kept.read_text() == EXPECTED.replace("<CONF>", f'"{escaped}"')
    again = waspgate(*run)
    assert (again.status, again.out) == (0, f"as expected by {kept}\n")


def test_a_difference_is_shown_and_status_1(waspgate: Waspgate, greeting: Path, case: Path, tmp_path: Path) -> None:
    kept = tmp_path / "expected.txt"
    run = ("plugin", "run", greeting, "--request", case, "--expect", kept, "--conf")
    waspgate(*run, '{"value": "a"}', "--update")
    ended = waspgate(*run, '{"value": "b"}')
    assert ended.status == 1
    lines = ended.out.splitlines()
    assert lines[0] == f"--- {kept}"
    assert "-    x-greeting: a" in lines
    assert "+    x-greeting: b" in lines


def test_a_line_is_a_request(waspgate: Waspgate, greeting: Path) -> None:
    ended = waspgate(
        *("plugin", "run", greeting, "--conf", CONF, "--request", "PUT /a", "--request", "GET /b"),
        *("-H", "x-c: d", "-d", "body", "--output", "json"),
    )
    assert ended.status == 0
    steps = json.loads(ended.out)["steps"]
    assert [step["title"] for step in steps] == ["start", "request 1: PUT /a", "request 2: GET /b", "end"]
    assert steps[1]["forwarded"] == {
        "method": "PUT",
        "path": "/a",
        "authority": "example.com",
        "headers": [["x-c", "d"]],
        "body": "body",
        "trailers": [],
        "complete": True,
    }
    assert steps[1]["response"]["headers"] == [["x-greeting", "hello"]]
    calls = [entry["name"] for entry in steps[1]["transcript"] if entry["kind"] == "host_call"]
    assert calls == ["proxy_get_header_map_value", "proxy_replace_header_map_value"]


def test_times_are_shown_where_nothing_is_compared(waspgate: Waspgate, greeting: Path) -> None:
    shown = waspgate("plugin", "run", greeting, "--conf", CONF).out
    assert " us)\n" in shown
    assert "\033" not in shown


def test_timers_and_calls_of_a_case(waspgate: Waspgate, tmp_path: Path) -> None:
    module, case = tmp_path / "console.wasm", tmp_path / "case.json"
    module.write_bytes(console())
    script = ["request_headers return 1", "tick effective 2", "tick continue 0"]
    document = {"configuration": "\n".join(script), "requests": [{"path": "/late", "ticks": 1}, {"path": "/never"}]}
    case.write_text(json.dumps(document))
    ended = waspgate("plugin", "run", module, "--request", case)
    assert ended.status == 0
    assert "the client got:\n    200\n" in ended.out
    assert "the request still waits; the client leaves" in ended.out
    assert ended.out.count("the client got nothing") == 1


def test_a_configuration_may_be_an_object_or_a_file(waspgate: Waspgate, greeting: Path, tmp_path: Path) -> None:
    case, conf = tmp_path / "case.json", tmp_path / "conf.json"
    case.write_text('{"configuration": {"value": "from the case"}, "requests": [{}]}')
    conf.write_text('{"value": "from a file"}')
    assert "x-greeting: from the case" in waspgate("plugin", "run", greeting, "--request", case).out
    shown = waspgate("plugin", "run", greeting, "--request", case, "--conf", f"@{conf}").out
    assert "x-greeting: from a file" in shown


def test_a_plugin_that_refuses_or_fails_is_status_1(waspgate: Waspgate, greeting: Path, tmp_path: Path) -> None:
    refused = waspgate("plugin", "run", greeting, "--conf", "[]")
    assert refused.status == 1
    assert refused.out.endswith("FAILED: the plugin answered false to proxy_on_configure\n")
    kept = ("plugin", "run", greeting, "--conf", "[]", "--expect", tmp_path / "refused.txt")
    waspgate(*kept, "--update")
    assert waspgate(*kept).status == 0, "a refusal that is expected is a test that passes"
    module = tmp_path / "console.wasm"
    module.write_bytes(console())
    trapped = waspgate("plugin", "run", module, "--conf", "response_headers trap")
    assert trapped.status == 1
    assert "    -> did not return\n" in trapped.out
    assert "the client got:\n    503\n" in trapped.out
    assert "# end" not in trapped.out
    assert "FAILED: " in trapped.out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[requests]]\npaht = '/'", "requests.0.paht: extra inputs are not permitted"),
        ("[[requests]]\nticks = -1", "requests.0.ticks: input should be greater than or equal to 0"),
        ("requests = []", "requests: list should have at least 1 item"),
        (
            "[[requests]]\nresponse = { status = 99 }",
            "requests.0.response.status: input should be greater than or equal to 200",
        ),
        ("x", "is not TOML"),
        ("[[requests]]\npath = 'x'", "request 1 cannot be sent: a path begins with /"),
        ("[[requests]]\nbody = 'x'\nchunks = ['y']", "request 1 cannot be sent: a message has a body or chunks"),
    ],
)
def test_a_mistake_in_a_case_is_named(waspgate: Waspgate, greeting: Path, tmp_path: Path, text: str, complaint: str) -> None:
    case = tmp_path / "case.toml"
    case.write_text(text)
    ended = waspgate("plugin", "run", greeting, "--conf", CONF, "--request", case)
    assert ended.status == 2
    assert complaint in ended.err
    assert ended.err.startswith("waspgate: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--request", "get /"), "expected a file or METHOD /PATH"),
        (("--request", "GET x"), "expected a file or METHOD /PATH"),
        (("--request", "absent.toml"), "cannot read absent.toml: No such file"),
        (("--request", "GET /", "-H", "nonsense"), "--header: expected NAME: VALUE"),
        (("--request", "GET /", "-H", "a b: c"), "not a header name"),
        (("--conf", "@absent"), "--configuration: cannot read absent"),
        (("--update",), "--update writes the file of --expect"),
    ],
)
def test_a_wrong_option_is_status_2(waspgate: Waspgate, greeting: Path, arguments: tuple[str, ...], complaint: str) -> None:
    ended = waspgate("plugin", "run", greeting, *(arguments if "--conf" in arguments else ("--conf", CONF, *arguments)))
    assert ended.status == 2
    assert complaint in ended.err


def test_a_file_that_is_no_plugin(waspgate: Waspgate, tmp_path: Path) -> None:
    module = tmp_path / "text.wasm"
    module.write_text("text")
    ended = waspgate("plugin", "run", module)
    assert ended.status == 1
    assert ended.err.startswith("waspgate: the module cannot be loaded: not a Wasm module")
    assert waspgate("plugin", "run", tmp_path / "absent.wasm").status == 2
