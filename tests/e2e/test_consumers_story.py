"""The page about consumers, word for word: what it writes is written, what it says of requests is so, with two workers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.command import ROOT, wait_until
from tests.support.gateway import UpstreamSide, ok, upstream
from tests.support.up import Up, waspgate_up

PAGE = (ROOT / "docs/consumers.md").read_text()
TOLD = ("x-consumer-username", "x-credential-identifier", "x-consumer-custom-id")


def telling(side: UpstreamSide) -> None:
    """Answers what it was sent."""
    while head := side.head():
        side.send(ok(head))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with upstream(telling) as server, waspgate_up(tmp_path_factory.mktemp("up"), server.port, workers=2) as running:
        for path, document in re.findall(r"^PUT /apisix/admin/(\S+)\n(.+)$", PAGE, re.MULTILINE):
            running.put(path, json.loads(document.replace("127.0.0.1:9099", f"127.0.0.1:{server.port}")))
        # Each worker has come to the last of them.
        wait_until(lambda: all(asked(running, "mary-key")[0] == 200 for _ in range(8)), "both workers serve it")
        yield running


def asked(up: Up, key: str | None, *more: tuple[str, str]) -> tuple[int, str, dict[str, str]]:
    """Status, body, and the headers that the upstream got."""
    fields = [("Host", "t"), *more, *([("apikey", key)] if key else [])]
    answer = httpx.get(f"http://{up.listen}/orders", headers=fields, trust_env=False, timeout=10)
    lines = (line.partition(": ") for line in answer.text.split("\r\n"))
    return answer.status_code, answer.text, {name.lower(): value for name, _, value in lines}


def rows() -> list[list[str]]:
    table = PAGE.partition("|---|---|---|---|\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def coded(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_the_page_says_of_requests(up: Up, row: list[str]) -> None:
    named, status, begins, told = row
    key = coded(named)[0].partition(": ")[2] if coded(named) else None
    expected = {name.lower(): value for name, _, value in (line.partition(": ") for line in coded(told))}
    for _ in range(4):
        found, body, fields = asked(up, key, ("X-Consumer-Username", "root"), ("X_Credential_Identifier", "root"))
        assert found == int(status)
        assert body.startswith(coded(begins)[0])
        assert {name: fields[name] for name in TOLD if name in fields} == expected


def test_a_credential_that_is_deleted_opens_nothing_any_more(up: Up) -> None:
    up.put("consumers/jack/credentials/second", {"plugins": {"key-auth": {"key": "second"}}})
    wait_until(lambda: all(asked(up, "second")[0] == 200 for _ in range(8)), "it is served")
    up.write("DELETE", "consumers/jack/credentials/second")
    wait_until(lambda: all(asked(up, "second")[0] == 401 for _ in range(8)), "it is gone")
    assert asked(up, "jack-key")[0] == 200


def test_no_key_is_in_a_log_or_an_answer(up: Up) -> None:
    asked(up, "a-wrong-key")
    up.admin.put("consumers", json={"username": "eve", "plugins": {"key-auth": {"key": "hush-hush", "no": 1}}})
    shown = [up.admin.get(path).text for path in ("consumers", "consumers/jack", "consumers/rose/credentials/laptop")]
    log = up.command.output
    for secret in ("jack-key", "rose-key", "a-wrong-key", "hush-hush"):
        assert secret not in log
        assert all(secret not in text for text in shown), secret
