"""`waspgate up` with TLS: certificates through the Admin API, served at once, replaced while clients are connected."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.command import free_port, wait_until
from tests.support.gateway import ScriptedUpstream, answering, ok, upstream
from tests.support.tls import Authority, Pair, ssl_document, tls_client
from tests.support.up import HOST, Up, waspgate_up

AUTHORITY = Authority()
ONE, TWO = AUTHORITY.issue("one.test"), AUTHORITY.issue("one.test")


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with upstream(answering(ok(b"hello"))) as running:
        yield running


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stream_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, server: ScriptedUpstream, tls_port: int, stream_port: int) -> Iterator[Up]:
    more = {"WASPGATE_TLS_LISTEN": f"{HOST}:{tls_port}", "WASPGATE_TRUSTED_ADDRESSES": "127.0.0.2, 127.0.0.3/32"}
    more["WASPGATE_STREAM_LISTEN"] = f"tls-terminate://{HOST}:{stream_port}"
    with waspgate_up(tmp_path_factory.mktemp("up"), server.port, 1, **more) as running:
        running.put("routes/1", {"uri": "/*", "upstream": running.upstream})
        running.put("stream_routes/1", {"upstream": {"scheme": "tcp", **running.upstream}})
        running.put("ssls/1", ssl_document(ONE, "one.test"))
        running.settle()
        yield running


def shown(port: int) -> bytes | None:
    with tls_client(port, AUTHORITY.trusting(), "one.test") as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        return raw.socket.getpeercert(binary_form=True)


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert)


def test_what_is_put_is_served_and_replaced_under_a_client(up: Up, tls_port: int) -> None:
    with tls_client(tls_port, AUTHORITY.trusting(), "one.test") as raw:
        assert raw.get().body == b"hello"
        up.put("ssls/1", ssl_document(TWO, "one.test"))
        wait_until(lambda: shown(tls_port) == der(TWO), "the new certificate is shown")
        assert raw.get().body == b"hello"
        up.put("ssls/1", ssl_document(ONE, "one.test"))
        wait_until(lambda: shown(tls_port) == der(ONE), "the old one again")


def test_clients_choose_between_http_2_and_http_1(up: Up, tls_port: int) -> None:
    for offered, agreed in ((("h2", "http/1.1"), "h2"), (("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1"), ((), None)):
        with tls_client(tls_port, AUTHORITY.trusting(None, None, *offered), "one.test") as raw:
            assert isinstance(raw.socket, ssl.SSLSocket)
            assert raw.socket.selected_alpn_protocol() == agreed


def test_tls_of_streams_ends_where_it_shall(up: Up, server: ScriptedUpstream, stream_port: int) -> None:
    with tls_client(stream_port, AUTHORITY.trusting(), "one.test") as raw:
        assert raw.get(b"/as-it-is").body == b"hello"
    assert b"GET /as-it-is HTTP/1.1\r\nHost: t\r\n\r\n" in server.received
    said = [line["listen"] for line in up.log() if line["event"] == "TCP is proxied"]
    assert said == [f"tls-terminate://{HOST}:{stream_port}"]


def test_keys_are_not_read_back(up: Up) -> None:
    written = up.put("ssls/2", ssl_document(ONE, "two.test", certs=[TWO.cert], keys=[TWO.key], labels={"a": "b"}))
    read = up.admin.get("ssls/2").json()
    patched = up.write("PATCH", "ssls/2", json={"labels": {"a": "c"}})
    listed = [item for item in up.admin.get("ssls").json()["list"] if item["key"].endswith("/2")]
    answers: list[dict[str, Any]] = [written, read, patched, *listed]
    assert len(answers) == 4
    for answer in answers:
        assert "PRIVATE" not in str(answer)
        assert answer["value"]["cert"] == ONE.cert
        assert answer["value"]["certs"] == [TWO.cert]
    # What a PATCH does not speak of stays: the key is still there.
    assert patched["value"]["labels"] == {"a": "c"}


def test_a_pair_that_does_not_belong_together_is_refused_with_its_place(up: Up) -> None:
    answer = up.admin.put("ssls/3", json={**ssl_document(ONE, "three.test"), "key": TWO.key})
    assert answer.status_code == 400
    assert "the key does not belong to the certificate" in answer.json()["error_msg"]
    assert [problem["path"] for problem in answer.json()["errors"]] == ["$.key"]
    assert "PRIVATE" not in answer.text


def test_only_trusted_addresses_speak_for_others(up: Up, server: ScriptedUpstream) -> None:
    """All of 127.0.0.0/8 is this machine, so a client can come from where it likes."""
    for address, seen in (("127.0.0.2", "192.0.2.1"), ("127.0.0.4", "127.0.0.4")):
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport) as sender:
            sender.get(f"http://{up.listen}/", headers={"X-Forwarded-For": "192.0.2.1"})
        server.wait_for(f"X-Real-IP: {seen}\r\n".encode())
