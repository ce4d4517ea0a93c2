"""The variables and pages of the dialect `apisix`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.proxy_wasm.nginx import VARIABLES, Message, is_variable, variable, with_page
from shared.proxy_wasm.outcome import SentReply
from tests.support.guest import Facts

REQUEST = (
    (b":authority", b"Example.com:81"),
    (b":path", b"/a/b?x=1&Y=2&empty=&flag"),
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b"x-one", b"1"),
    (b"x-one", b"2"),
    (b"cookie", b"a=b; c=d"),
    (b"content-length", b"5"),
)
RESPONSE = ((b":status", b"404"), (b"server", b"up"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", b"example.com"),
        ("uri", b"/a/b"),
        ("request_uri", b"/a/b?x=1&Y=2&empty=&flag"),
        ("args", b"x=1&Y=2&empty=&flag"),
        ("is_args", b"?"),
        ("arg_x", b"1"),
        ("arg_y", b"2"),
        ("ARG_X", b"1"),
        ("arg_empty", b""),
        ("arg_flag", b""),
        ("arg_absent", None),
        ("cookie_c", b"d"),
        ("cookie_x", None),
        ("http_x_one", b"1"),
        ("http_absent", None),
        ("sent_http_server", b"up"),
        ("status", b"404"),
        ("content_length", b"5"),
        ("content_type", None),
        ("request", b"POST /a/b?x=1&Y=2&empty=&flag HTTP/1.1"),
        ("remote_addr", b"192.0.2.7"),
        ("remote_port", b"50000"),
        ("server_addr", b"::1"),
        ("msec", b"1700000000.000"),
        ("upstream_addr", None),
        ("request_time", None),
    ],
)
def test_a_variable(name: str, value: bytes | None) -> None:
    assert is_variable(name.encode())
    assert variable(name.encode(), Message(Facts(), REQUEST, RESPONSE)) == value


def test_what_is_none() -> None:
    assert not is_variable(b"no_such_variable")
    assert variable(b"no_such_variable", Message(Facts(), REQUEST, RESPONSE)) is None


FIELDS = st.lists(st.tuples(st.sampled_from([b":path", b":authority", b"cookie", b"x"]), st.binary(max_size=20)), max_size=6)
NAMES = st.sampled_from([*VARIABLES, "arg_x", "cookie_x", "http_x", "arg_", "http_"]).map(str.encode) | st.binary(max_size=12)


@given(NAMES, FIELDS)
def test_any_name_of_any_request_is_bytes_or_nothing(name: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    value = variable(name, Message(Facts(), tuple(fields), ()))
    assert value is None or isinstance(value, bytes)


@pytest.mark.parametrize(("status", "title"), [(401, "401 Authorization Required"), (404, "404 Not Found"), (599, "599")])
def test_a_bare_error_has_a_page(status: int, title: str) -> None:
    sent = with_page(SentReply(status, b"", ((b"x", b"y"),), "", None))
    assert f"<title>{title}</title>".encode() in sent.body
    assert sent.fields == ((b"x", b"y"), (b"content-type", b"text/html; charset=utf-8"))


@pytest.mark.parametrize(
    "sent", [SentReply(401, b"HIT", (), "", None), SentReply(204, b"", (), "", None), SentReply(304, b"", (), "", None)]
)
def test_anything_else_stays_as_it_is(sent: SentReply) -> None:
    assert with_page(sent) is sent
