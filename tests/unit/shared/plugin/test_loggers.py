"""The loggers: what they say of a request, what they keep of bodies, and where it goes."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.plugin.builtin import file_logger, sockets, syslog
from shared.plugin.host import Fetched
from tests.support.native import Message, Native, refusal

URI = "http://logs.test/in"
HOST = "127.0.0.1"


class Logged:
    """A route with one logger."""

    def __init__(self, plugin: str = "http-logger", metadata: dict[str, Any] | None = None, **conf: Any) -> None:  # noqa: ANN401
        self.plugin = plugin
        conf = {"uri": URI, **conf} if plugin == "http-logger" else conf
        self.status = 200
        kept = {} if metadata is None else {plugin: metadata}
        self.native = Native({plugin: conf}, metadata=kept, answer=lambda method, url: Fetched(self.status, (), b""))
        self.calls = self.native.host.calls

    def pass_one(self, target: str = "/p", *fields: str, body: bytes = b"", **options: Any) -> Message:  # noqa: ANN401
        method = "POST" if body else "GET"
        assert self.native.request(target, *fields, method=method, body=body) is not None
        return self.native.response(b"hello", **options)

    def flush(self) -> None:
        """As at the end of a worker: what waits is sent."""

        async def ended() -> None:
            for _, work in self.native.host.work:
                task = asyncio.ensure_future(work)
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(ended())
        self.native.host.work.clear()

    def entries(self) -> list[dict[str, Any]]:
        self.flush()
        return [entry for _, _, _, body in self.calls for entry in json.loads(body)]

    def entry(self) -> dict[str, Any]:
        (entry,) = self.entries()
        return entry


def test_the_entry_of_apisix() -> None:
    logged = Logged()
    logged.pass_one("/p?a=1&a=2&b", "X-A: 1", "X-A: 2", body=b"hi", fields=("X-R: r",))
    entry = logged.entry()
    assert entry["request"]["headers"].pop("x-forwarded-for") == "10.0.0.1"
    assert {"x-a", "host"} <= entry["request"].pop("headers").keys()
    assert entry.pop("request") == {
        "url": "http://t:80/p?a=1&a=2&b",
        "uri": "/p?a=1&a=2&b",
        "method": "POST",
        "querystring": {"a": ["1", "2"], "b": ""},
        "size": 2,
    }
    assert entry.pop("response") == {"status": 200, "headers": {"x-r": "r"}, "size": 5}
    assert entry.pop("server").keys() == {"hostname", "version"}
    assert (entry.pop("start_time"), entry.pop("latency")) == (0.001, 0.0)
    assert entry == {"upstream": "a:80", "client_ip": "10.0.0.1", "route_id": "1", "service_id": ""}


def test_the_consumer_is_named() -> None:
    native = Native(
        {"http-logger": {"uri": URI}, "jwt-auth": {"anonymous_consumer": "ann"}},
        consumers={"ann": {}},
        answer=lambda method, url: Fetched(200, (), b""),
    )
    logged = Logged()
    logged.native = native
    native.passed()
    logged.flush()
    assert json.loads(native.host.calls[0][3])[0]["consumer"] == {"username": "ann"}


def test_a_client_that_left_is_told_of_too() -> None:
    logged = Logged()
    logged.native.request("/p", method="POST", body=b"a", eos=False)
    logged.native.exchange.client_gone()
    assert logged.entry()["response"] == {"status": 499, "headers": {}, "size": 0}


FORMAT = {
    "host": "$host",
    "constant": "a text",
    "dollar": "$",
    "nested": {"status": "$status", "line": "$request"},
    "agent": "$http_user_agent",
    "none": "$http_none",
    "sent": "$sent_http_x_r",
    "bytes": "$bytes_sent",
    "route": "$route_name",
    "time": "$time_iso8601",
    "local": "$time_local",
    "seconds": "$request_time",
    "upstream": "$upstream_addr",
}


def test_an_operators_own_format() -> None:
    logged = Logged(log_format=FORMAT)
    logged.pass_one("/p?x", "User-Agent: me", fields=("X-R: r",), status=404)
    assert logged.entry() == {
        "host": "t",
        "constant": "a text",
        "dollar": "$",
        "nested": {"status": 404, "line": "GET /p?x HTTP/1.1"},
        "agent": "me",
        "none": None,
        "sent": "r",
        "bytes": 5,
        "route": "one",
        "time": "1970-01-01T00:00:00+00:00",
        "local": "01/Jan/1970:00:00:00 +0000",
        "seconds": 0.0,
        "upstream": "a:80",
        "route_id": "1",
        "service_id": "",
    }


def test_a_format_for_all_and_one_of_its_own() -> None:
    metadata = {"log_format": {"all": "$host"}}
    own: dict[str, Any] = {"log_format": {"own": "$host"}}
    for conf, key in (({}, "all"), (own, "own")):
        logged = Logged("http-logger", metadata, **conf)
        logged.pass_one()
        assert logged.entry()[key] == "t"


@pytest.mark.parametrize("logged_format", [None, {"a": "$host", "request": "taken"}], ids=["full", "own"])
def test_bodies_within_their_bounds(logged_format: dict[str, Any] | None) -> None:
    conf: dict[str, Any] = {
        "include_req_body": True,
        "include_resp_body": True,
        "max_req_body_bytes": 4,
        "max_resp_body_bytes": 6,
    }
    if logged_format is not None:
        conf["log_format"] = logged_format
    logged = Logged("http-logger", None, **conf)
    logged.native.request("/p", method="POST", body=b"ab", eos=False)
    logged.native.exchange.request_body(b"cdef", True)
    answer = logged.native.response(b"hello", b" world")
    assert (answer.body, answer["content-length"]) == (b"hello world", "11")
    entry = logged.entry()
    assert (entry["request"]["body"], entry["response"]["body"]) == ("abcd", "hello ")


def test_bodies_only_when_that_is_asked_for() -> None:
    logged = Logged(
        include_req_body=True,
        include_req_body_expr=[["arg_log", "==", "yes"]],
        include_resp_body=True,
        include_resp_body_expr=[["status", ">=", 400]],
    )
    logged.pass_one("/p?log=yes", body=b"a")
    logged.pass_one("/p", body=b"a", status=500)
    first, second = logged.entries()
    assert (first["request"]["body"], "body" in first["response"]) == ("a", False)
    assert ("body" in second["request"], second["response"]["body"]) == (False, "hello")


def test_bytes_that_are_no_text_are_json_all_the_same() -> None:
    logged = Logged(include_req_body=True, log_format={"a": "$http_x_a", "body": "$request_body", "q": "$arg_q"})
    logged.native.request("/p?q=%ff", "X-A: caf\u00e9", method="POST", body=b"\xff\x00")
    logged.native.response(b"")
    entry = logged.entry()
    assert (entry["a"], entry["body"], entry["q"]) == ("caf\u00e9", "\ufffd\x00", "\ufffd")


# Where entries go.


def test_http_sends_an_array() -> None:
    logged = Logged(auth_header="Basic eA==", log_format={"a": "$uri"})
    logged.pass_one("/1")
    logged.pass_one("/2")
    logged.flush()
    assert logged.calls == [
        (
            "POST",
            URI,
            (("Content-Type", "application/json"), ("Authorization", "Basic eA==")),
            b'[{"a":"/1","route_id":"1","service_id":""},{"a":"/2","route_id":"1","service_id":""}]',
        )
    ]


def test_or_lines_or_one_entry() -> None:
    lines = Logged(concat_method="new_line", log_format={"a": "$uri"})
    for target in ("/1", "/2"):
        lines.pass_one(target)
    lines.flush()
    assert [json.loads(line)["a"] for line in lines.calls[0][3].split(b"\n")] == ["/1", "/2"]
    assert lines.calls[0][2] == (("Content-Type", "text/plain"),)
    single = Logged(batch_max_size=1)
    single.pass_one()
    single.flush()
    assert json.loads(single.calls[0][3])["client_ip"] == "10.0.0.1"


def test_a_server_that_refuses_is_reported_without_what_it_was_sent() -> None:
    logged = Logged(auth_header="Bearer hunter2")
    logged.status = 503
    logged.pass_one()
    logged.flush()
    ((plugin, error),) = logged.native.host.failures
    assert (plugin, str(error)) == ("http-logger", "1 entries lost: the server answered 503")


def test_a_queue_is_bounded_by_the_metadata() -> None:
    logged = Logged(metadata={"max_pending_entries": 2})
    for _ in range(3):
        logged.pass_one()
    assert len(logged.entries()) == 2


def test_a_configuration_that_goes_is_flushed() -> None:
    logged = Logged()
    logged.pass_one()
    (step,) = logged.native.exchange._program.log  # type: ignore[attr-defined]
    step.__self__.detach()
    (work,) = (work for _, work in logged.native.host.work)
    asyncio.run(work)
    assert len(logged.calls) == 1


def test_no_entry_no_queue() -> None:
    assert Logged().native.host.work == []


def test_a_file_gets_lines_and_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    logged = Logged("file-logger", path=str(path), log_format={"a": "$uri"})
    logged.pass_one("/1")
    logged.pass_one("/2")
    logged.flush()
    assert [json.loads(line)["a"] for line in path.read_bytes().splitlines()] == ["/1", "/2"]
    assert path.stat().st_mode & 0o777 == 0o640
    path.rename(tmp_path / "access.log.1")
    file_logger._append(str(path), b"x\n")
    assert path.read_bytes() == b"x\n"


def test_a_file_only_of_what_matches(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    logged = Logged("file-logger", metadata={"path": str(path)}, match=[["status", ">=", 400]], log_format={"a": "$uri"})
    logged.pass_one("/1")
    logged.pass_one("/2", status=404)
    logged.flush()
    assert [json.loads(line)["a"] for line in path.read_bytes().splitlines()] == ["/2"]


def test_a_file_of_what_one_of_several_lists_matches(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    rules = [[["arg_a", "==", "1"], ["arg_b", "==", "2"]], [["status", "==", 404]]]
    logged = Logged("file-logger", path=str(path), match=rules, log_format={"a": "$request_uri"})
    for target, status in (("/?a=1", 200), ("/?a=1&b=2", 200), ("/", 404)):
        logged.pass_one(target, status=status)
    logged.flush()
    assert [json.loads(line)["a"] for line in path.read_bytes().splitlines()] == ["/?a=1&b=2", "/"]


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    logged = Logged("file-logger", path=str(tmp_path / "none" / "access.log"))
    logged.pass_one()
    logged.flush()
    assert "No such file" in str(logged.native.host.failures[0][1])


def test_a_file_without_a_path_is_reported() -> None:
    logged = Logged("file-logger")
    logged.pass_one()
    assert [str(error) for _, error in logged.native.host.failures] == [
        "there is no path, neither in the configuration nor in the metadata"
    ]


def over_tcp(send: Callable[[int], None]) -> bytes:
    """What a server gets."""
    with socket.create_server((HOST, 0)) as server:
        send(server.getsockname()[1])
        accepted, _ = server.accept()
        accepted.settimeout(5)
        with accepted:
            return b"".join(iter(lambda: accepted.recv(65536), b""))


def logged_twice(plugin: str, **conf: Any) -> None:  # noqa: ANN401
    logged = Logged(plugin, host=HOST, log_format={"a": "$uri"}, **conf)
    logged.pass_one("/1")
    logged.pass_one("/2")
    logged.flush()
    assert logged.native.host.failures == []


def test_tcp_gets_lines() -> None:
    data = over_tcp(lambda port: logged_twice("tcp-logger", port=port))
    assert [json.loads(line)["a"] for line in data.splitlines()] == ["/1", "/2"]


MESSAGE = re.compile(rb"<46>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ waspgate \d+ - - (\{.*\})")


def test_syslog_over_tcp_gets_messages() -> None:
    data = over_tcp(lambda port: logged_twice("syslog", port=port))
    matches = [MESSAGE.fullmatch(line) for line in data.splitlines()]
    assert [json.loads(match[1])["a"] for match in matches if match] == ["/1", "/2"]


def test_syslog_leaves_by_its_bytes_and_drops_by_them() -> None:
    sent: list[bytes] = []

    def receive(port: int) -> None:
        logged = Logged("syslog", host=HOST, port=port, flush_limit=150, drop_limit=400, log_format={"a": "$uri"})
        for number in range(10):
            logged.pass_one(f"/{number}")
        (step,) = logged.native.exchange._program.log  # type: ignore[attr-defined]
        sent.append(b"%d" % step.__self__.batches.dropped)
        logged.flush()
        assert {str(error).partition(":")[2] for _, error in logged.native.host.failures} == {" too many entries are waiting"}

    first = over_tcp(receive)
    dropped = int(sent[0])
    # Of ten of a hundred bytes and more, four at most wait, and one or two are a batch.
    assert 6 <= dropped <= 8
    assert 1 <= len(first.splitlines()) <= 2


@pytest.mark.parametrize(("plugin", "conf"), [("udp-logger", {}), ("syslog", {"sock_type": "udp"})])
def test_udp_gets_a_datagram_each(plugin: str, conf: dict[str, Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(5)
        logged_twice(plugin, port=server.getsockname()[1], **conf)
        received = [server.recv(65536) for _ in range(2)]
    assert [data[data.index(b"{") :][:9] for data in received] == [b'{"a":"/1"', b'{"a":"/2"']


def test_nobody_listens() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    logged = Logged("tcp-logger", host=HOST, port=port)
    logged.pass_one()
    logged.flush()
    assert "1 entries lost" in str(logged.native.host.failures[0][1])


def test_a_datagram_that_would_be_too_long() -> None:
    with pytest.raises(ValueError, match="does not fit into a datagram"):
        asyncio.run(sockets.send_datagrams(HOST, 9, [bytes(70_000)], 1))


def test_a_message_of_syslog() -> None:
    text = syslog.message(b"{}", datetime(2026, 1, 2, 3, 4, 5, 6000, UTC))
    assert text.startswith(b"<46>1 2026-01-02T03:04:05.006Z ")


WHERE = {"host": HOST, "port": 514}


@pytest.mark.parametrize(
    ("plugin", "conf", "says"),
    [
        ("http-logger", {}, "uri"),
        ("http-logger", {"uri": "logs"}, "expected a URL as in"),
        ("http-logger", {"uri": URI, "timeout": 0}, "timeout"),
        ("http-logger", {"uri": URI, "batch_max_size": 0}, "batch_max_size"),
        ("http-logger", {"uri": URI, "inactive_timeout": 0}, "inactive_timeout"),
        ("http-logger", {"uri": URI, "buffer_duration": 0.5}, "buffer_duration"),
        ("http-logger", {"uri": URI, "max_retry_count": -1}, "max_retry_count"),
        ("http-logger", {"uri": URI, "concat_method": "xml"}, "concat_method"),
        ("http-logger", {"uri": URI, "auth_header": "a\r\nX: y"}, "no control characters"),
        ("http-logger", {"uri": URI, "log_format": {}}, "log_format"),
        ("http-logger", {"uri": URI, "log_format": {"a": "$nothing"}}, "unknown variable"),
        ("http-logger", {"uri": URI, "log_format": {"a": 5}}, "expected a text or an object in a format"),
        ("http-logger", {"uri": URI, "log_format": {"a": {"b": {"c": {"d": {"e": {}}}}}}}, "5 objects deep"),
        ("http-logger", {"uri": URI, "log_format": {"a": "$post_arg_x"}}, "only the beginning is kept"),
        ("http-logger", {"uri": URI, "include_req_body_expr": [["a"]]}, "include_req_body_expr"),
        ("http-logger", {"uri": URI, "include_resp_body_expr": [["post_arg_a", "==", "b"]]}, "include_resp_body_expr"),
        ("http-logger", {"uri": URI, "max_req_body_bytes": 0}, "max_req_body_bytes"),
        ("file-logger", {"path": ""}, "path"),
        ("file-logger", {"path": "a\0b"}, "path"),
        ("file-logger", {"path": "a", "match": [["x"]]}, "match"),
        ("tcp-logger", {"host": HOST}, "port"),
        ("tcp-logger", {"host": "a b", "port": 1}, "host"),
        ("tcp-logger", {**WHERE, "port": 65536}, "port"),
        ("tcp-logger", {**WHERE, "tls": 1}, "tls"),
        ("udp-logger", {**WHERE, "timeout": 0}, "timeout"),
        ("syslog", {**WHERE, "sock_type": "unix"}, "sock_type"),
        ("syslog", {**WHERE, "flush_limit": 0}, "flush_limit"),
    ],
)
def test_wrong_configurations_are_refused(plugin: str, conf: dict[str, Any], says: str) -> None:
    assert says in refusal(plugin, conf)
