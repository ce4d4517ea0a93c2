"""A plugin from a package that this project does not know: installed, configured, running, as docs/native-plugins.md tells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.command import ROOT
from tests.support.gateway import answering, ok, upstream
from tests.support.up import Up, waspgate_up

SAMPLE = Path(__file__).parent / "sample"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A gateway in whose environment the sample is installed."""
    folder = tmp_path_factory.mktemp("native")
    source, target = folder / "source", folder / "site"
    shutil.copytree(SAMPLE, source)
    install = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    path = f"{ROOT}:{target}"
    with upstream(answering(ok(b"hello"))) as server, waspgate_up(folder, server.port, PYTHONPATH=path) as gateway:
        yield gateway


def test_it_is_listed_with_its_schema(up: Up) -> None:
    assert "sample-quota" in up.admin.get("plugins/list").json()
    schema = up.admin.get("plugins/sample-quota").json()
    assert schema["properties"]["requests"] == {"minimum": 1, "title": "Requests", "type": "integer"}


def test_what_its_model_refuses_is_refused(up: Up) -> None:
    document = {"uri": "/*", "plugins": {"sample-quota": {"requests": 0}}, "upstream": up.upstream}
    answer = up.admin.put("routes/1", json=document)
    assert answer.status_code == 400
    assert "failed to check the configuration of plugin sample-quota" in answer.json()["error_msg"]


def test_it_runs_beside_the_gateways_own(up: Up) -> None:
    plugins = {"sample-quota": {"requests": 2}, "proxy-rewrite": {"uri": "/new"}, "response-rewrite": {"headers": {"X-A": "b"}}}
    up.put("routes/1", {"uri": "/*", "plugins": plugins, "upstream": up.upstream})
    up.settle()
    answers = [asked(up) for _ in range(3)]
    assert [(answer.status_code, answer.headers["x-requests-left"]) for answer in answers] == [
        (200, "1"),
        (200, "0"),
        (429, "0"),
    ]
    assert answers[2].json() == {"error_msg": "no requests left"}
    assert answers[0].text == "hello"
    assert answers[0].headers["x-a"] == "b"
    # What it counts stays when something else of the route changes.
    up.put("routes/1", {"uri": "/*", "plugins": {**plugins, "cors": {}}, "upstream": up.upstream})
    up.settle()
    assert asked(up).status_code == 429


def asked(up: Up) -> httpx.Response:
    return httpx.get(f"http://{up.listen}/x", headers={"X-Key": "k"}, trust_env=False, timeout=10)
