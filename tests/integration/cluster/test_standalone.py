"""A data plane without any store: its configuration is a file, read again when it changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import run, wait_until
from tests.support.data_plane import DataPlane
from tests.support.gateway import HOST, answering, ok, upstream
from tests.support.guests import assemble
from tests.support.raw_http import client


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with upstream(answering(ok())) as server:
        yield server.port


def gateway(port: int, *uris: str, more: str = "") -> str:
    node = f'{{nodes: {{"{HOST}:{port}": 1}}, type: roundrobin}}'
    return "routes:\n" + "".join(f"  - {{uri: {uri}, upstream: {node}{more}}}\n" for uri in uris)


def status(plane: DataPlane, path: str) -> int | None:
    try:
        with client(plane.port) as raw:
            return raw.get(path.encode()).status
    except (OSError, EOFError):
        return None


def test_it_serves_what_the_file_says_and_follows_it(tmp_path: Path, port: int) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(gateway(port, "/a") + "#END\n")
    (tmp_path / "p.wasm").write_bytes(assemble())
    plane = DataPlane(tmp_path, "--workers", "2", store=f"yaml://{file}")
    try:
        plane.ready(2)
        assert (status(plane, "/a"), status(plane, "/b")) == (200, 404)
        plugin = "wasm_plugins: [{id: p, module: {file: p.wasm}}]\n"
        file.write_text(gateway(port, "/a", "/b", more=", plugins: {p: {conf: x}}") + plugin + "#END\n")
        wait_until(lambda: [status(plane, "/b") for _ in range(8)] == [200] * 8, "both workers have the route and its plugin")
        file.write_text("routes: [\n#END\n")
        wait_until(lambda: "the last good configuration stays" in plane.log, "the bad file is reported")
        assert status(plane, "/b") == 200
        # One bad object costs itself alone.
        file.write_text(gateway(port, "/a", "/c") + "  - {id: bad, uri: 1}\n#END\n")
        wait_until(lambda: [status(plane, "/c") for _ in range(8)] == [200] * 8, "the good ones are served")
        problems = plane.events("config item has a problem")
        assert {event["key"] for event in problems} == {"/apisix/routes/bad"}
        assert "registry" not in plane.log
    finally:
        plane.process.terminate()
        assert plane.process.wait(40) == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gateway.yaml", "routes: [", "did not find expected node content at line 2 column 1"),
        ("gateway.json", '{"routes": [{"id": true}]}', "gateway.json: $.routes[0].id: expected a string or a number, got true"),
        ("gateway.yml", "listen: 127.0.0.1:80", "gateway.yml: $.listen: unknown section, known are routes"),
    ],
)
def test_a_file_that_cannot_be_one_starts_nothing(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "data_plane", "--config", str(tmp_path / name)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert ended.stderr.startswith("waspgate data-plane: --config: ")
    assert ended.stderr.count("\n") == 1


def test_settings_and_a_configuration_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("routes:\n")
    both = run(["data-plane", "--config", str(file), "--store", "sqlite:////nowhere/x"], tmp_path)
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)
    assert "only one of them can be served" in both.stderr
    again = [sys.executable, "-m", "data_plane", "--config", str(file), "--store", "sqlite:////nowhere/x"]
    ended = subprocess.run(again, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "only one of them can be served" in ended.stderr
    for command in ("up", "control-plane"):
        refused = run([command, "--config", str(file)], tmp_path)
        assert refused.returncode == 2
        assert "is a gateway's whole configuration, for `waspgate data-plane`" in refused.stderr
