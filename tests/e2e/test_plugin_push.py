"""`waspgate plugin push`: a module to a gateway of two workers, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.command import run, wait_until
from tests.support.gateway import answering, ok, upstream
from tests.support.guest import assemble, console
from tests.support.up import KEY, Up, waspgate_up

Push = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with upstream(answering(ok())) as server, waspgate_up(tmp_path_factory.mktemp("up"), server.port, 2) as started:
        yield started


@pytest.fixture
def push(up: Up, tmp_path: Path) -> Push:
    admin = up.admin.base_url.netloc.decode()

    def pushed(name: str, module: bytes, *options: str, key: str = KEY) -> CompletedProcess[str]:
        file = tmp_path / "module.wasm"
        file.write_bytes(module)
        return run(
            ["plugin", "push", name, str(file), *options],
            tmp_path,
            WASPGATE_ADMIN=admin,
            WASPGATE_ADMIN_KEY=key,
        )

    return pushed


def test_when_it_returns_every_worker_has_the_module(up: Up, push: Push) -> None:
    pushed = push("pushed", console())
    assert pushed.returncode == 0, pushed.stderr
    digest = up.admin.get("wasm_plugins/pushed").json()["value"]["module"]["sha256"]
    assert pushed.stdout.splitlines() == [f"pushed: {digest}, {len(console())} bytes, ABI 0.2.1", "2 workers have it"]
    # The control API says a second later what the workers have.
    wait_until(lambda: said(up) == {digest}, "the control API says so too")
    again = push("pushed", console("ABI_0_2_0"), "--vm-conf", "for the VM", "--output", "json")
    answer = json.loads(again.stdout)
    assert (answer["workers"], answer["abi_version"]) == (2, "0.2.0")
    assert up.admin.get("wasm_plugins/pushed").json()["value"]["vm_configuration"] == "for the VM"
    wait_until(lambda: said(up) == {answer["sha256"]}, "the control API says so too")


def said(up: Up) -> set[str]:
    plugins = {plugin["name"]: plugin for plugin in up.control("/v1/plugins/wasm")}
    return {row["sha256"] for row in plugins["pushed"]["workers"]} if "pushed" in plugins else set()


def test_a_module_that_does_not_start_is_said_to_be_kept_out(up: Up, push: Push) -> None:
    assert push("kept", console()).returncode == 0
    up.put("routes/kept", {"uri": "/kept", "plugins": {"kept": {"conf": "x"}}, "upstream": up.upstream})
    up.settle()
    assert all(up.get("/kept").is_success for _ in range(10))
    bad = push("kept", assemble('(func (export "proxy_on_vm_start") (param i32 i32) (result i32) unreachable)'))
    assert bad.returncode == 1
    assert bad.stderr.startswith("waspgate: ")
    assert "unreachable" in bad.stderr
    assert up.get("/kept").is_success


def test_what_is_refused_is_one_line(up: Up, push: Push) -> None:
    refused = push("bad", b"nonsense")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "answers 400: " in refused.stderr
    assert "not a Wasm module" in refused.stderr
    assert "answers 401: " in push("bad", console(), key="wrong").stderr


def test_what_cannot_be_reached_is_one_line(push: Push) -> None:
    away = push("x", console(), "--admin", "127.0.0.1:1")
    assert (away.returncode, away.stderr.count("\n")) == (1, 1)
    assert "cannot reach the Admin API at http://127.0.0.1:1/" in away.stderr


def test_nobody_waits_for_what_is_only_uploaded(push: Push) -> None:
    unseen = push("x", console(), "--no-wait")
    assert (unseen.returncode, len(unseen.stdout.splitlines())) == (0, 1)


@pytest.mark.parametrize(("option", "value"), [("--admin", "nonsense"), ("--timeout", "-1"), ("--timeout", "301")])
def test_a_wrong_option_is_status_2(push: Push, option: str, value: str) -> None:
    assert push("x", console(), option, value).returncode == 2
