"""What the benchmark makes of its figures, and how it says that it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bench import proc, report, tools
from tests.bench.effect import Effect
from tests.bench.errors import BenchError, MissingTool
from tests.bench.load import Figures
from tests.bench.result import Result, percentile, plugin_cost_us, ratio, verdicts


def cpu(*microseconds: float) -> list[Figures]:
    return [Figures(1e6 / cost, 1.0, cost) for cost in microseconds]


DISTURBED = Result({"envoy": cpu(40, 80, 40), "waspgate": cpu(20, 40, 30), "waspgate-plugin": cpu(22, 41, 34)})


def test_a_ratio_is_taken_within_a_round() -> None:
    assert ratio(DISTURBED, "waspgate", "envoy") == 0.5


def test_a_ratio_needs_both() -> None:
    assert ratio(DISTURBED, "waspgate-plugin", "envoy-plugin") is None
    assert verdicts(DISTURBED) == ["waspgate plain: 0.50x of Envoy (required <= 0.60): reached"]


def test_a_requirement_that_is_missed_is_said() -> None:
    slow = Result({"envoy-plugin": cpu(40), "waspgate-plugin": cpu(25)})
    assert verdicts(slow) == ["waspgate with plugin: 0.62x of Envoy (required <= 0.60): missed"]


def test_the_cost_of_the_plugin_is_taken_within_a_round() -> None:
    assert plugin_cost_us(DISTURBED, "waspgate", "waspgate-plugin") == 2


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 100), (99, 198), (100, 200)])
def test_percentile(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(200, 0, -1)], percent) == value


def test_the_report_holds_what_was_measured_and_nothing_else() -> None:
    result = Result({"waspgate": cpu(20)}, {}, None, Effect([2.0], [5.0]), [1.5])
    text = report.text(result)
    assert [line.split() for line in text.splitlines() if line.startswith("Waspgate")] == [
        ["Waspgate", "50000", "1.0", "20.0", "-"]
    ]
    assert "from PUT to effect: median 5.0 ms, p99 5.0 ms, 1 changes (the PUT's own answer: median 2.0 ms)" in text
    assert "cold start with 10,000 routes: 1.50 s" in text
    assert "added cost" not in text
    assert "memory" not in text


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda _: None)
    with pytest.raises(MissingTool, match="needs nginx and wrk: install with `apt-get install nginx-light wrk`") as caught:
        tools.require(["nginx", "wrk", "envoy"])
    assert caught.value.exit_code == 2
    with pytest.raises(MissingTool, match="make bench"):
        tools.require(["envoy"])


def test_the_command_leaves_with_2_and_one_sentence() -> None:
    code = (
        "import sys; from tests.bench import __main__ as bench, tools; tools.find = lambda name: None; sys.exit(bench.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tools.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_cpu_time_covers_children_and_refuses_a_changed_tree() -> None:
    with subprocess.Popen(["sleep", "30"]) as child:
        before = proc.cpu_seconds(os.getpid())
        assert {os.getpid(), child.pid} <= before.keys()
        child.kill()
        child.wait()
    after = proc.cpu_seconds(os.getpid())
    with pytest.raises(BenchError, match="came or went"):
        proc.cpu_between(before, after)
    assert proc.cpu_between({1: 1.0, 2: 2.0}, {1: 1.5, 2: 2.25}) == 0.75


def test_resident_memory_is_read() -> None:
    assert proc.resident_bytes(os.getpid()) > 1024 * 1024
