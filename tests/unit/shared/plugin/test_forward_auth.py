"""forward-auth: what the service is asked, and what becomes of its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.plugin.host import Fetched, FetchFailed
from tests.support.native import Message, Native, refusal

URI = "http://auth.test:8080/check?a=1"


class Service:
    """`calls` as RecordingHost has them; `conf` beside the uri."""

    def __init__(self, answer: Fetched | None = None, **conf: Any) -> None:  # noqa: ANN401 - a plugin's configuration
        def answered(method: str, url: str) -> Fetched:
            if answer is None:
                raise FetchFailed("cannot connect")
            return answer

        self.native = Native({"forward-auth": {"uri": URI, **conf}}, answer=answered)
        self.calls = self.native.host.calls

    def ask(self, *fields: str, **options: Any) -> Message | None:  # noqa: ANN401 - as Native.request
        """What the upstream gets once the service has answered, if anything."""
        assert self.native.request("/p?b=%20", *fields, **options) is None
        (answer, told) = self.native.stage.waiting.pop()

        async def awaited() -> None:
            told(await answer, None)

        asyncio.run(awaited())
        sent = self.native.recorded.upstream
        return Message.of(b"".join(sent)) if sent else None

    def asked(self) -> dict[str, str]:
        ((_, _, headers, _),) = self.calls
        return dict(headers)


def yes(*headers: tuple[str, str], status: int = 200) -> Fetched:
    return Fetched(status, headers, b"")


def test_the_service_is_told_what_is_asked() -> None:
    service = Service(yes())
    assert service.ask("Authorization: secret", "X-Forwarded-For: 6.6.6.6", method="PUT", body=b"x") is not None
    assert service.calls == [
        (
            "GET",
            URI,
            (
                ("X-Forwarded-Proto", "http"),
                ("X-Forwarded-Method", "PUT"),
                ("X-Forwarded-Host", "t"),
                ("X-Forwarded-Uri", "/p?b=%20"),
                ("X-Forwarded-For", "10.0.0.1"),
            ),
            b"",
        )
    ]


def test_headers_for_the_service() -> None:
    extra = {"X-Extra": "$remote_addr:$arg_b", "X-Empty": "$arg_none", "X-Mine": "gateway"}
    service = Service(yes(), request_headers=["authorization", "X-Mine", "X-Forwarded-Uri"], extra_headers=extra)
    service.ask("Authorization: one", "X-Mine: client", "X-Forwarded-Uri: /other")
    asked = service.asked()
    assert (asked["authorization"], asked["X-Extra"], asked["X-Mine"]) == ("one", "10.0.0.1: ", "gateway")
    assert asked["X-Forwarded-Uri"] == "/p?b=%20"
    assert "X-Empty" not in asked


def test_with_post_the_service_gets_the_body() -> None:
    service = Service(yes(), request_method="POST")
    sent = service.ask("Content-Encoding: x", method="POST", body=b"hello")
    assert sent is not None
    assert (service.calls[0][0], service.calls[0][3], sent.body) == ("POST", b"hello", b"hello")
    assert service.asked()["Content-Encoding"] == "x"


def test_what_the_service_says_of_the_request_goes_to_the_upstream() -> None:
    answer = yes(("x-user", "ann"), ("x-role", "a"), ("x-role", "b"), ("x-other", "c"))
    service = Service(answer, upstream_headers=["X-User", "X-Role", "X-No"])
    sent = service.ask("X-User: root", "X-No: client")
    assert sent is not None
    assert (sent.all("x-user"), sent.all("x-role"), sent["x-no"], sent["x-other"]) == (["ann"], ["a", "b"], None, None)


@pytest.mark.parametrize("status", [300, 302, 401, 403, 503])
def test_a_refusal_is_the_services_own(status: int) -> None:
    answer = Fetched(status, (("location", "/login"), ("content-type", "text/html"), ("x-secret", "s")), b"go away")
    service = Service(answer, client_headers=["Location", "Content-Type"])
    assert service.ask() is None
    got = service.native.answer
    assert (got.status, got.body, got["location"], got["content-type"]) == (status, b"go away", "/login", "text/html")
    assert got["x-secret"] is None


@pytest.mark.parametrize("status", [200, 204, 299])
def test_yes_is_any_two_hundred(status: int) -> None:
    assert Service(yes(status=status)).ask() is not None


def test_a_service_that_says_nothing_lets_nobody_pass() -> None:
    for conf, status in (({}, 403), ({"status_on_error": 503}, 503)):
        service = Service(None, **conf)
        for _ in range(3):
            assert service.ask() is None
        assert (service.native.answer.status, service.native.answer.body) == (status, b"")
        ((plugin, error),) = service.native.host.failures
        assert (plugin, str(error)) == ("forward-auth", "cannot connect")


def test_unless_the_operator_lets_everybody_pass_then() -> None:
    assert Service(None, allow_degradation=True).ask() is not None


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({}, "uri"),
        *(({"uri": uri}, "expected a URL as in") for uri in ("x", "ftp://a/", "http://", "http://u:p@a/", "http://a:x/")),
        *(({"uri": uri}, "expected a URL as in") for uri in ("http://a/ b", "http://a/#f", "http://a/\r\nX: y", "http://[::1")),
        ({"uri": URI, "request_method": "PUT"}, "request_method"),
        ({"uri": URI, "timeout": 0}, "timeout"),
        ({"uri": URI, "timeout": 60001}, "timeout"),
        ({"uri": URI, "status_on_error": 99}, "status_on_error"),
        ({"uri": URI, "request_headers": ["a b"]}, "request_headers"),
        ({"uri": URI, "upstream_headers": ["Host"]}, "the Host of a request"),
        ({"uri": URI, "upstream_headers": ["Content-Length"]}, "the gateway itself decides"),
        ({"uri": URI, "extra_headers": {}}, "extra_headers"),
        ({"uri": URI, "extra_headers": {"A": "$nothing"}}, "unknown variable"),
        ({"uri": URI, "ssl_verify": "no"}, "ssl_verify"),
        ({"uri": URI, "keepalive_pool": 0}, "keepalive_pool"),
    ],
)
def test_wrong_configurations_are_refused(conf: dict[str, Any], says: str) -> None:
    assert says in refusal("forward-auth", conf)


def test_a_refused_url_shows_no_password() -> None:
    assert "hunter2" not in refusal("forward-auth", {"uri": "http://ann:hunter2@auth.test/"})
