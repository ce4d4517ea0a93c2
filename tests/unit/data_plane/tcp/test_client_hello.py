"""The reader of server names: hellos of real clients, every way to cut them, and everything that is none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.tcp.client_hello import MAX_HELLO, ClientHello, NotAClientHello, client_hello, server_name

NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,40}(\.[a-zA-Z0-9_-]{1,40}){0,4}", fullmatch=True)


def real_hello(name: str | None, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.maximum_version = maximum
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def made_hello(extensions: bytes | None, *, session: bytes = b"") -> bytes:
    """The message, with its header."""
    body = b"\3\3" + b"r" * 32 + vector(1, session) + vector(2, b"\x13\1") + vector(1, b"\0")
    if extensions is not None:
        body += vector(2, extensions)
    return b"\1" + vector(3, body)


def names_extension(*names: tuple[int, bytes]) -> bytes:
    listed = b"".join(bytes((kind,)) + vector(2, name) for kind, name in names)
    return b"\0\0" + vector(2, vector(2, listed))


def records(message: bytes, size: int = 1 << 14) -> bytes:
    return b"".join(b"\x16\3\1" + vector(2, message[k : k + size]) for k in range(0, len(message), size))


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "found"), [("example.com", b"example.com"), ("Db.Example.COM", b"db.example.com"), (None, b"")]
)
def test_real_hellos(name: str | None, found: bytes, maximum: ssl.TLSVersion) -> None:
    assert server_name(real_hello(name, maximum=maximum)) == found


def test_the_protocols_that_a_client_offers() -> None:
    hello = client_hello(real_hello("example.com"))
    assert hello == ClientHello(b"example.com", (b"h2", b"http/1.1"))
    assert client_hello(records(made_hello(names_extension((0, b"a"))))) == ClientHello(b"a")
    assert client_hello(records(made_hello(None))) == ClientHello()


@pytest.mark.parametrize("listed", [vector(1, b"\x09http/1.1"), vector(2, b"\x02h2")[:-1], vector(2, b"\x05h2")])
def test_a_list_of_protocols_that_leads_nowhere(listed: bytes) -> None:
    with pytest.raises(NotAClientHello):
        client_hello(records(made_hello(b"\0\x10" + vector(2, listed))))


def test_every_beginning_of_a_hello_needs_more() -> None:
    hello = real_hello("example.com")
    assert [server_name(hello[:size]) for size in range(len(hello))] == [None] * len(hello)
    assert server_name(hello + b"early data behind it") == b"example.com"


@given(NAMES, st.integers(1, 300), st.binary(max_size=32))
def test_any_division_into_records(name: str, size: int, session: bytes) -> None:
    message = made_hello(b"\0\x2b" + vector(2, b"\2\3\4") + names_extension((0, name.encode())), session=session)
    assert server_name(records(message, size)) == name.lower().encode().removesuffix(b".")


@pytest.mark.parametrize(
    ("extensions", "found"),
    [
        (None, b""),
        (b"", b""),
        (b"\0\x2b" + vector(2, b"\2\3\4"), b""),
        (names_extension((0, b"a.test.")), b"a.test"),
        (names_extension((7, b"other"), (0, b"a.test")), b"a.test"),
        (names_extension((7, b"other")), b""),
        (names_extension(), b""),
    ],
)
def test_the_extension(extensions: bytes | None, found: bytes) -> None:
    assert server_name(records(made_hello(extensions))) == found


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x80\x2e\1\3\1",  # SSL 2
        b"\x15\3\1\0\2\2\x28",  # an alert
        b"\x16\2\0\0\1\1",
        b"\x16\3\1\0\0",  # an empty record
        b"\x16\3\1\x40\1" + b"\1" * 4,  # too large a record
        b"\x16\3\1\0\4\2\0\0\0",  # a ServerHello
        records(b"\1" + (MAX_HELLO + 1).to_bytes(3, "big")),
        records(made_hello(names_extension((0, b"")))),
        records(made_hello(names_extension((0, b"a" * 256)))),
        records(made_hello(names_extension((0, b"a\0b")))),
        records(made_hello(names_extension((0, "é".encode())))),
        records(made_hello(b"\0\0\0\xff")),
        records(b"\1\0\0\1\3"),
    ],
)
def test_what_is_no_hello(data: bytes) -> None:
    with pytest.raises(NotAClientHello):
        server_name(data)


def test_a_hello_that_never_ends() -> None:
    """A record's length may be filled slowly; what is read at most is bounded."""
    endless = records(b"\1" + MAX_HELLO.to_bytes(3, "big") + b"x" * MAX_HELLO, 1)[:MAX_HELLO]
    assert server_name(endless[:-1]) is None
    with pytest.raises(NotAClientHello):
        server_name(endless)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: records(b"\1" + vector(3, data))))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    try:
        found = server_name(data)
    except NotAClientHello:
        return
    assert found is None or isinstance(found, bytes)


@given(NAMES, st.data())
def test_a_damaged_hello_has_an_answer_too(name: str, data: st.DataObject) -> None:
    hello = bytearray(records(made_hello(names_extension((0, name.encode())))))
    for _ in range(data.draw(st.integers(1, 4))):
        hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
    try:
        server_name(bytes(hello))
    except NotAClientHello:
        return
