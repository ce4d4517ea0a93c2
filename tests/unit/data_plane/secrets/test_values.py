"""Looking up what references stand for: without waiting, without losing what was known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from data_plane.config.compiler import Compiler
from data_plane.secrets.values import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Read, UnknownError, Values
from data_plane.secrets.vault import VaultError, members, url_of
from shared.keys import ResourceKey
from shared.schema.document import encode
from shared.schema.secret import VaultSpec
from shared.secrets.keyring import Keyring, SealError
from shared.secrets.sealed_store import seal_value
from shared.store.contract import Batch, Entry, Event

KEYRING = Keyring([bytes(32)])
VAULT = VaultSpec(uri="http://127.0.0.1:8200", prefix="kv/apisix", token="t")
ROUTE = ResourceKey("routes", "1")
KEY = "$secret://vault/1/john/key"
NODES = {"nodes": {"127.0.0.1:1980": 1}}


class Manager:
    """Answers with `secrets` by path, or fails; `asked` is what it was asked for."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {"john": {"key": "one", "number": 7}}
        self.failure = ""
        self.hangs = False
        self.asked: list[str] = []

    async def fetch(self, vault: VaultSpec, path: str) -> dict[str, Any]:
        self.asked.append(path)
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure:
            raise VaultError(self.failure)
        return self.secrets[path]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def values(manager: Manager, clock: Clock) -> Values:
    found = Values(KEYRING, {"PLAIN": "text", "JSON": '{"a":"b","n":1}'}, manager.fetch, ttl=300, clock=clock)
    found.manage("vault/1", VAULT)
    return found


def read(values: Values, key: str) -> Read:
    return values.read(ROUTE, encode({"plugins": {"x": {"key": key}}}))


def meaning(values: Values, key: str) -> bytes:
    return read(values, key).data


def plain(text: str) -> bytes:
    return encode({"plugins": {"x": {"key": text}}})


@pytest.mark.parametrize(("text", "meant"), [("$env://PLAIN", "text"), ("$ENV://JSON/a", "b"), ("$env://JSON/n", "1")])
def test_variables_are_known_at_once(values: Values, text: str, meant: str) -> None:
    assert meaning(values, text) == plain(meant)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("$env://MISSING", r"\$env://MISSING: the data plane has no variable MISSING"),
        ("$env://PLAIN/a", "the variable PLAIN is no JSON object with a member a"),
        ("$env://JSON/x", "the variable JSON is no JSON object with a member x"),
        ("$secret://vault/1", r"expected \$secret://vault/ID/PATH/KEY"),
    ],
)
def test_what_cannot_be_looked_up_says_why(values: Values, text: str, why: str) -> None:
    with pytest.raises(UnknownError, match=why):
        read(values, text)


def test_a_value_without_references_passes(values: Values) -> None:
    value = b'{"uri": "/",   "desc":"as it is"}'
    assert values.read(ROUTE, value) == Read(value)
    assert values.read(ROUTE, b'["$env://PLAIN"]').data == b'["$env://PLAIN"]'


def test_sealed_values_are_opened(values: Values) -> None:
    ssl = ResourceKey("ssls", "1")
    stored = seal_value(KEYRING, "/apisix/ssls/1", encode({"key": "pem", "cert": "$env://PLAIN"}))
    assert values.read(ssl, stored).data == encode({"key": "pem", "cert": "text"})
    with pytest.raises(SealError, match=r"key is encrypted with the key .*, and there are no keys here"):
        Values(Keyring()).read(ssl, stored)


async def test_a_secret_is_fetched_once_for_all_who_name_it(values: Values, manager: Manager) -> None:
    for _ in range(3):
        with pytest.raises(UnknownError, match="is not known yet"):
            read(values, KEY)
    with pytest.raises(UnknownError):
        read(values, "$secret://vault/1/john/number")

    assert await values.settle() == {KEY, "$secret://vault/1/john/number"}
    assert meaning(values, KEY) == plain("one")
    assert meaning(values, "$secret://vault/1/john/number") == plain("7")
    assert await values.settle() == set()
    assert manager.asked == ["john"]


async def test_it_is_asked_for_again_when_it_is_old(values: Values, manager: Manager, clock: Clock) -> None:
    await known(values)
    manager.secrets["john"] = {"key": "two"}
    clock.now += 301
    assert await values.renewed() == {KEY}
    assert meaning(values, KEY) == plain("two")


async def test_a_failure_takes_nothing_away(values: Values, manager: Manager, clock: Clock) -> None:
    await known(values)
    manager.failure = "answered 403: permission denied"
    clock.now += 301
    assert await values.renewed() == {KEY}
    stale = read(values, KEY)
    assert stale.data == plain("one")
    assert stale.problem == f"{KEY}: answered 403: permission denied; the last value stays"

    manager.failure = ""
    clock.now += LAST_RETRY_SECONDS
    assert await values.renewed() == {KEY}
    assert read(values, KEY).problem == ""


async def test_failures_are_tried_again_later_and_later(values: Values, manager: Manager, clock: Clock) -> None:
    manager.failure = "cannot be reached"
    with pytest.raises(UnknownError):
        read(values, KEY)
    assert await values.settle() == {KEY}
    with pytest.raises(UnknownError, match="cannot be reached"):
        read(values, KEY)
    # Nobody waits for it again.
    assert await values.settle() == set()

    pauses = []
    for _ in range(8):
        before, start = len(manager.asked), clock.now
        while len(manager.asked) == before:
            clock.now += FIRST_RETRY_SECONDS
            await turn(values)
        pauses.append(clock.now - start)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_a_manager_that_hangs_holds_nothing_up(values: Values, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_plane.secrets.values.PATIENCE_SECONDS", 0.01)
    manager.hangs = True
    with pytest.raises(UnknownError):
        read(values, KEY)
    assert await values.settle() == set()


async def test_another_token_is_tried_at_once(values: Values, manager: Manager) -> None:
    manager.failure = "answered 403"
    with pytest.raises(UnknownError):
        read(values, KEY)
    await values.settle()
    manager.failure = ""
    waiting = asyncio.create_task(values.renewed())
    await asyncio.sleep(0)
    values.manage("vault/1", VAULT.model_copy(update={"token": "another"}))
    async with asyncio.timeout(5):
        assert await waiting == {KEY}
    assert meaning(values, KEY) == plain("one")


async def test_without_its_manager_a_secret_is_unknown(values: Values) -> None:
    with pytest.raises(UnknownError):
        read(values, "$secret://vault/2/john/key")
    await values.settle()
    with pytest.raises(UnknownError, match="there is no secret manager vault/2"):
        read(values, "$secret://vault/2/john/key")


async def test_a_missing_member_is_told(values: Values) -> None:
    await known(values)
    with pytest.raises(UnknownError, match="the secret has no member other"):
        read(values, "$secret://vault/1/john/other")


async def test_what_nobody_names_is_not_asked_for(values: Values, manager: Manager, clock: Clock) -> None:
    await known(values)
    values.forget(set())
    clock.now += 301
    await turn(values)
    assert manager.asked == ["john"]


async def known(values: Values) -> None:
    with pytest.raises(UnknownError):
        read(values, KEY)
    await values.settle()


async def turn(values: Values) -> None:
    """Whatever is due is asked for."""
    task = asyncio.create_task(values.renewed())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_paths_of_both_versions() -> None:
    second = VAULT.model_copy(update={"kv_version": "kv-v2"})
    assert url_of(VAULT, "john") == "http://127.0.0.1:8200/v1/kv/apisix/john"
    assert url_of(second, "a/j?n") == "http://127.0.0.1:8200/v1/kv/data/apisix/a/j%3Fn"
    assert url_of(second.model_copy(update={"prefix": "kv"}), "john") == "http://127.0.0.1:8200/v1/kv/data/john"


def test_answers_of_both_versions() -> None:
    assert members(200, b'{"data":{"key":"one"}}') == {"key": "one"}
    assert members(200, b'{"data":{"data":{"key":"one"},"metadata":{"version":3}}}') == {"key": "one"}
    # A first version whose secret has a member of that name.
    assert members(200, b'{"data":{"data":"x"}}') == {"data": "x"}


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (404, b'{"errors":[]}', r"there is no such secret \(404\)"),
        (403, b'{"errors":["permission denied"]}', "answered 403: permission denied"),
        (503, b"<html>", "answered 503$"),
        (307, b"", "answered 307$"),
        (200, b"<html>", "the answer holds no secret"),
        (200, b"[]", "the answer holds no secret"),
        (200, b'{"data":{"data":null,"metadata":{"deletion_time":"x"}}}', "the answer holds no secret"),
    ],
)
def test_other_answers_are_one_line(status: int, body: bytes, why: str) -> None:
    with pytest.raises(VaultError, match=why):
        members(status, body)


# What a worker makes of it.


class Worker:
    """A compiler over values, fed as a watcher does it."""

    def __init__(self, values: Values) -> None:
        self.compiler = Compiler()
        self.compiler.values = values
        self.revision = 0

    def write(self, key: str, document: object) -> None:
        self.revision += 1
        entry = Entry(key, encode(document), self.revision, self.revision)
        drain(self.compiler.apply(Batch(self.revision, (Event(key, self.revision, entry),))))

    def publish(self) -> Any:  # noqa: ANN401
        self.compiler.begin()
        return drain(self.compiler.commit({}))


def drain(steps: Any) -> Any:  # noqa: ANN401
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value


def csrf_key(worker: Worker) -> str | None:
    route = worker.publish().routes.get("1")
    return None if route is None else str(route.bindings[0].source[0].config.key)


@pytest.fixture
def routed(values: Values) -> Callable[[str], Worker]:
    def of(key: str) -> Worker:
        worker = Worker(values)
        worker.write("/apisix/routes/1", {"uri": "/", "upstream": NODES, "plugins": {"csrf": {"key": key}}})
        return worker

    return of


async def test_a_route_waits_for_its_secret_and_changes_with_it(
    routed: Callable[[str], Worker], values: Values, manager: Manager, clock: Clock
) -> None:
    worker = routed(KEY)
    worker.write("/apisix/secrets/vault/1", {"uri": "http://127.0.0.1:8200", "prefix": "kv", "token": "t"})
    assert csrf_key(worker) is None
    assert worker.compiler.problems == {"/apisix/routes/1": f"{KEY}: is not known yet"}

    drain(worker.compiler.renew(await values.settle()))
    assert csrf_key(worker) == "one"
    assert not worker.compiler.problems

    manager.secrets["john"] = {"key": "two"}
    clock.now += 301
    drain(worker.compiler.renew(await values.renewed()))
    assert csrf_key(worker) == "two"


async def test_a_worker_keeps_what_it_has_and_says_what_is_wrong(
    routed: Callable[[str], Worker], values: Values, manager: Manager, clock: Clock
) -> None:
    worker = routed(KEY)
    drain(worker.compiler.renew(await values.settle()))
    assert csrf_key(worker) == "one"

    manager.failure = "answered 503"
    clock.now += 301
    drain(worker.compiler.renew(await values.renewed()))
    assert csrf_key(worker) == "one"
    assert worker.compiler.problems == {"/apisix/routes/1": f"{KEY}: answered 503; the last value stays"}

    manager.failure, manager.secrets["john"] = "", {"other": "x"}
    clock.now += LAST_RETRY_SECONDS
    drain(worker.compiler.renew(await values.renewed()))
    assert csrf_key(worker) == "one"
    assert worker.compiler.problems == {"/apisix/routes/1": f"{KEY}: the secret has no member key"}


def test_a_worker_without_the_key_keeps_the_last_good_version(routed: Callable[[str], Worker]) -> None:
    worker = routed("in-the-clear")
    assert csrf_key(worker) == "in-the-clear"
    key, document = "/apisix/routes/1", {"uri": "/", "upstream": NODES, "plugins": {"csrf": {"key": "sealed"}}}
    foreign = seal_value(Keyring([b"x" * 32]), key, encode(document))
    drain(worker.compiler.apply(Batch(9, (Event(key, 9, Entry(key, foreign, 1, 9)),))))
    assert csrf_key(worker) == "in-the-clear"
    (problem,) = worker.compiler.problems.values()
    assert problem.startswith("plugins.csrf.key is encrypted with the key ")


def test_what_was_encrypted_anew_is_no_change(routed: Callable[[str], Worker]) -> None:
    worker = routed("same")
    before = worker.publish().routes.get("1")
    key, document = "/apisix/routes/1", {"uri": "/", "upstream": NODES, "plugins": {"csrf": {"key": "same"}}}
    value = seal_value(KEYRING, key, encode(document))
    drain(worker.compiler.apply(Batch(9, (Event(key, 9, Entry(key, value, 1, 9)),))))
    assert worker.publish().routes.get("1") is before
