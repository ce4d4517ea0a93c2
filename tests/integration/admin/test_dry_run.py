"""Dry runs: what a plugin refuses at the control plane never gets into the store."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from control_plane.sandbox.job import Job, Refusal
from control_plane.sandbox.sandbox import Fetch, Sandbox
from shared.store.contract import ConfigStore
from tests.support.admin import NODES, Admin, admin
from tests.support.command import wait_until
from tests.support.guest import build

SOURCE = (Path(__file__).parents[2] / "support" / "guest_sources" / "particular.c").read_text()
GOOD = build(SOURCE)
# The same plugin, later: another configuration is what it wants.
NEXT = build(SOURCE, defines=["WANTS_B"])
ROUTE: dict[str, object] = {"uri": "/a", "upstream": NODES}

# A kind -> what an object of it needs besides plugins.
HOLDERS: dict[str, dict[str, object]] = {
    "routes": {"uri": "/a", "upstream": NODES},
    "services": {"upstream": NODES},
    "plugin_configs": {},
    "global_rules": {},
}


def using(conf: object, **more: object) -> dict[str, object]:
    return {"plugins": {"p": {"conf": conf}}, **more}


async def mistake(api: Admin, verb: str, path: str, body: object = None, content: bytes | None = None) -> dict[str, object]:
    """The one mistake of a refusal, whose text the message is."""
    response = await api.call(verb, path, body, content)
    assert response.status_code == 400, response.text
    answer = response.json()
    (found,) = answer["errors"]
    assert found["message"] == answer["error_msg"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("kind", HOLDERS)
async def test_a_configuration_that_the_plugin_refuses_is_refused_with_its_words(api: Admin, kind: str) -> None:
    await api.upload("p", GOOD)
    found = await mistake(api, "PUT", f"/{kind}/1", using("refuse", **HOLDERS[kind]))
    assert found["path"] == "$.plugins.p.conf"
    assert found["message"] == (
        "failed to check the configuration of plugin p err: the plugin answered false to proxy_on_configure; "
        "its last words: not with refuse"
    )
    assert found["log"] == ["vm started with nothing", "not with refuse"]
    assert (await api.call("GET", f"/{kind}/1")).status_code == 404

    await api.ok("PUT", f"/{kind}/1", using("a", **HOLDERS[kind]))
    await api.ok("PUT", f"/{kind}/2?dry_run=false", {**using("refuse", **HOLDERS[kind]), **_other_plugin(kind)})


def _other_plugin(kind: str) -> dict[str, object]:
    """A plugin may be in one global rule only: there the other rule stays without."""
    return {"plugins": {}} if kind == "global_rules" else {}


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ("trap", "wasm `unreachable` instruction executed"),
        ("loop", "interrupt"),
        ("allocate", "unreachable"),
        ("recurse", "call stack exhausted"),
    ],
)
async def test_a_configuration_that_breaks_the_plugin_is_refused(api: Admin, conf: str, reason: str) -> None:
    await api.upload("p", GOOD)
    found = await mistake(api, "PUT", "/routes/1", using(conf, **ROUTE))
    assert reason in str(found["message"])
    assert "(in proxy_on_configure)" in str(found["message"])
    await api.ok("PUT", "/routes/1", using("a", **ROUTE))


async def test_an_object_reaches_the_plugin_as_json(api: Admin) -> None:
    await api.upload("p", GOOD)
    found = await mistake(api, "POST", "/routes", using({"refuse": 1}, **ROUTE))
    assert found["log"] == ["vm started with nothing", 'not with {"refuse":1}']


async def test_what_a_reference_stands_for_is_not_known_here(api: Admin) -> None:
    """The plugin wants an object with `refuse` in it to be no configuration; a text that stands for one may be anything."""
    await api.upload("p", GOOD)
    await api.ok("PUT", "/routes/1", using("$env://REFUSE", **ROUTE))
    await api.ok("PUT", "/routes/2", using({"refuse": "$secret://vault/1/a/b"}, **ROUTE))
    await api.refused(400, "PUT", "/routes/3", using({"refuse": "no reference"}, **ROUTE))
    # Nor does a new module have to run with it.
    await api.ok("PUT", "/wasm_plugins/p", {"environment": {"KEY": "$env://KEY"}})


async def test_a_patch_answers_for_what_it_changes_and_a_put_for_all(api: Admin) -> None:
    await api.upload("p", GOOD)
    await api.ok("PUT", "/routes/1?dry_run=false", using("refuse", **ROUTE))
    await api.ok("PATCH", "/routes/1", {"desc": "not about the plugin"})
    await mistake(api, "PATCH", "/routes/1/plugins/p/conf", "refuse again")
    await mistake(api, "PUT", "/routes/1", using("refuse", **ROUTE))
    await api.ok("PATCH", "/routes/1/plugins/p/conf", "a")


async def test_a_disabled_plugin_is_not_asked(api: Admin) -> None:
    await api.upload("p", GOOD)
    disabled = {"p": {"conf": "refuse", "_meta": {"disable": True}}}
    await api.ok("PUT", "/routes/1", {**ROUTE, "plugins": disabled})
    await mistake(api, "PATCH", "/routes/1", {"plugins": {"p": {"_meta": {"disable": False}}}})


@pytest.mark.parametrize("text", ["", "no", "0", "TRUE"])
async def test_dry_run_is_true_or_false(api: Admin, text: str) -> None:
    assert "invalid argument dry_run" in await api.refused(400, "PUT", f"/routes/1?dry_run={text}", ROUTE)
    assert "invalid argument dry_run" in await api.refused(400, "PUT", f"/wasm_plugins/p/module?dry_run={text}", content=GOOD)


# --- plugins themselves


@pytest.mark.parametrize(
    ("define", "reason"),
    [
        ("TRAP_AT_START", " (at its start); its last words: starting"),
        ("LOOP_AT_START", "interrupt"),
        ("REFUSE_VM_START", "the plugin answered false to proxy_on_vm_start"),
    ],
)
async def test_a_module_that_does_not_start_is_refused(api: Admin, define: str, reason: str) -> None:
    bad = build(SOURCE, defines=[define])
    found = await mistake(api, "PUT", "/wasm_plugins/p/module", content=bad)
    assert found["path"] == "$.module"
    assert str(found["message"]).startswith("plugin [p] does not start: ")
    assert reason in str(found["message"])
    assert (await api.call("GET", "/wasm_plugins/p")).status_code == 404

    await api.ok("PUT", "/wasm_plugins/p/module?dry_run=false", content=bad)
    found = await mistake(api, "PUT", "/routes/1", using("a", **ROUTE))
    assert found["path"] == "$.plugins.p.conf"


async def test_the_vm_configuration_and_the_environment_are_those_of_the_plugin(api: Admin) -> None:
    await api.upload("p", GOOD)
    found = await mistake(api, "PATCH", "/wasm_plugins/p", {"vm_configuration": "refuse"})
    assert found["log"] == ["vm started with refuse"]
    await api.ok("PATCH", "/wasm_plugins/p", {"vm_configuration": "other"})
    await api.ok("PATCH", "/wasm_plugins/p", {"priority": 4})
    await api.ok("PUT", "/wasm_plugins/p?dry_run=false", {"vm_configuration": "refuse"})


async def test_a_cpu_limit_is_the_plugins_own(api: Admin) -> None:
    slow = build(SOURCE, defines=["SLOW_AT_START"])
    await api.ok("PUT", "/wasm_plugins/p", {"limits": {"start_cpu_ms": 1}})
    found = await mistake(api, "PUT", "/wasm_plugins/p/module", content=slow)
    assert "interrupt" in str(found["message"])
    await api.ok("PATCH", "/wasm_plugins/p", {"limits": {"start_cpu_ms": 10_000}})
    await api.upload("p", slow)


async def test_a_module_must_run_with_the_configurations_in_use(api: Admin) -> None:
    await api.upload("p", GOOD)
    await api.ok("PUT", "/services/s", using("a", **HOLDERS["services"]))
    await api.ok("PUT", "/routes/1", {**using("b", **ROUTE), "service_id": "s"})
    found = await mistake(api, "PUT", "/wasm_plugins/p/module", content=NEXT)
    assert found["message"] == (
        "plugin [p] does not run with its configuration in service [s]: the plugin answered false to proxy_on_configure; "
        "its last words: not with a"
    )
    sha256 = (await api.ok("GET", "/wasm_plugins/p"))["value"]["module"]["sha256"]

    await api.ok("PATCH", "/services/s", {"plugins": {"p": {"_meta": {"disable": True}}}})
    assert (await api.upload("p", NEXT))["sha256"] != sha256


async def test_only_so_many_configurations_are_tried(api: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.admin.dry_run.MOST_CONFIGURATIONS", 2)
    await api.upload("p", GOOD)
    for number, conf in enumerate(("b", "b1", "a")):
        await api.ok("PUT", f"/routes/{number}", using(conf, **ROUTE))
    await api.upload("p", NEXT)


async def test_host_calls_have_no_company_and_fail_nothing(api: Admin) -> None:
    await api.upload("p", GOOD)
    await api.ok("PUT", "/routes/1", using("share", **ROUTE))


class Meddled(Sandbox):
    """Between a verdict and the write that it is for, something else is written once."""

    meddle: Callable[[], Awaitable[object]] | None = None

    async def run(self, job: Job, fetch: Fetch) -> Refusal | None:
        refusal = await super().run(job, fetch)
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            await meddle()
        return refusal


@pytest.mark.parametrize("before", [None, "b"], ids=["bound", "changed"])
async def test_a_configuration_that_comes_while_the_module_is_tried_counts(store: ConfigStore, before: str | None) -> None:
    sandbox = Meddled()
    try:
        async with admin(store, sandbox=sandbox) as api:
            await api.upload("p", GOOD)
            if before is not None:
                await api.ok("PUT", "/routes/1", using(before, **ROUTE))
            sandbox.meddle = lambda: api.ok("PUT", "/routes/1", using("a", **ROUTE))
            assert "not with a" in await api.refused(400, "PUT", "/wasm_plugins/p/module", content=NEXT)
    finally:
        sandbox.close()


@pytest.mark.parametrize("before", [None, "b"], ids=["bound", "changed"])
async def test_a_module_that_comes_while_a_configuration_is_tried_counts(store: ConfigStore, before: str | None) -> None:
    sandbox = Meddled()
    try:
        async with admin(store, sandbox=sandbox) as api:
            await api.upload("p", GOOD)
            if before is not None:
                await api.ok("PUT", "/routes/1", using(before, **ROUTE))
            sandbox.meddle = lambda: api.upload("p", NEXT)
            assert "not with a" in await api.refused(400, "PUT", "/routes/1", using("a", **ROUTE))
    finally:
        sandbox.close()


# --- the sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(wall_seconds=20)
    yield sandbox
    sandbox.close()


@pytest.fixture
async def own(store: ConfigStore, sandbox: Sandbox) -> AsyncIterator[Admin]:
    async with admin(store, sandbox=sandbox) as opened:
        yield opened


def process(number: int, name: str) -> str:
    return Path(f"/proc/{number}/{name}").read_text()


def pid(sandbox: Sandbox) -> int:
    child = sandbox._child
    assert child is not None
    return child._process.pid


async def test_the_event_loop_turns_while_a_plugin_loops(own: Admin, sandbox: Sandbox) -> None:
    await own.upload("p", GOOD)
    writing = asyncio.create_task(own.call("PUT", "/routes/1", using("loop", **ROUTE)))
    turns = 0
    while not writing.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert (await writing).status_code == 400
    # A second of CPU time, in hundredths; a loop that was held up would have turned a few times.
    assert turns > 20


async def test_a_killed_sandbox_is_a_refusal_and_the_next_write_has_a_new_one(own: Admin, sandbox: Sandbox) -> None:
    await own.upload("p", GOOD)
    first = pid(sandbox)
    writing = asyncio.create_task(own.call("PUT", "/routes/1", using("loop", **ROUTE)))
    await asyncio.to_thread(wait_until, lambda: "R" in process(first, "stat").rpartition(")")[2], "it is busy")
    os.kill(first, signal.SIGKILL)
    answer = (await writing).json()["error_msg"]
    assert "the dry run ended its process by SIGKILL" in answer
    await own.ok("PUT", "/routes/1", using("a", **ROUTE))
    assert pid(sandbox) != first


async def test_a_dry_run_ends_within_its_wall_time(store: ConfigStore) -> None:
    sandbox = Sandbox(wall_seconds=20)
    try:
        async with admin(store, sandbox=sandbox) as api:
            await api.ok("PUT", "/wasm_plugins/p", {"limits": {"start_cpu_ms": 60_000}})
            await api.upload("p", GOOD)
            sandbox._wall_seconds = 0.3
            answer = await api.refused(400, "PUT", "/routes/1", using("loop", **ROUTE))
            assert "the dry run did not end within 0.3 s" in answer
            sandbox._wall_seconds = 20
            await api.ok("PUT", "/routes/1", using("a", **ROUTE))
    finally:
        sandbox.close()


async def test_what_was_found_good_is_not_run_again(own: Admin, sandbox: Sandbox) -> None:
    await own.upload("p", GOOD)
    await own.ok("PUT", "/routes/1", using("a", **ROUTE))
    os.kill(pid(sandbox), signal.SIGSTOP)
    try:
        await own.ok("PUT", "/routes/2", using("a", **ROUTE))
    finally:
        os.kill(pid(sandbox), signal.SIGCONT)


async def test_the_sandbox_has_neither_keys_nor_a_terminals_signals(
    own: Admin, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WASPGATE_ADMIN_KEY", "secret")
    await own.upload("p", GOOD)
    assert "WASPGATE" not in process(pid(sandbox), "environ")
    os.kill(pid(sandbox), signal.SIGINT)
    await own.ok("PUT", "/routes/1", using("a", **ROUTE))
    assert process(pid(sandbox), "oom_score_adj") == "1000\n"
    assert os.getpriority(os.PRIO_PROCESS, pid(sandbox)) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_the_sandbox_ends_with_the_control_plane(own: Admin, sandbox: Sandbox) -> None:
    """However that ended: the socket between them does."""
    await own.upload("p", GOOD)
    child = sandbox._child
    assert child is not None
    child._connection.close()
    assert await asyncio.to_thread(child._process.wait, 20) == 0
    await own.ok("PUT", "/routes/1", using("a", **ROUTE))


async def test_without_a_sandbox_nothing_is_written(store: ConfigStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox()
    monkeypatch.setattr("control_plane.sandbox.sandbox.CHILD", ("-c", "pass"))
    try:
        async with admin(store, sandbox=sandbox) as api:
            answer = await api.refused(503, "PUT", "/wasm_plugins/p/module", content=GOOD)
            assert answer.startswith("the sandbox did not start (status 0)")
            assert "dry_run=false" in answer
            await api.ok("PUT", "/wasm_plugins/p/module?dry_run=false", content=GOOD)
    finally:
        sandbox.close()
