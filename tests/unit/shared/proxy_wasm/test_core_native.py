"""The core as a native program under every sanitizer that a compiler here has: unit checks, then a seeded fuzz.

What the program checks, and how it stands for the guest and for Python, is in tests/fuzz/core_driver.c.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from shared.proxy_wasm.core_build import NativeBuild, build_native

DRIVER = Path(__file__).resolve().parents[3] / "fuzz" / "core_driver.c"
# A second or so under both sanitizers.
ROUNDS = 60_000


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> list[NativeBuild]:
    # What only Python calls is not used here.
    flags = ("-Werror", "-Wno-unused-function")
    return build_native([DRIVER], tmp_path_factory.mktemp("native") / "core_driver", extra_flags=flags)


@pytest.mark.parametrize("seed", range(1, 9))
def test_no_sequence_of_phases_and_calls_steps_out_of_line(drivers: list[NativeBuild], seed: int) -> None:
    # Leaks are counted by the driver itself; the sanitizer's own search needs rights that a container may not have.
    environment = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    for driver in drivers:
        command = [str(driver.program), str(seed), str(ROUNDS)]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert (driver.sanitizers, run.returncode, run.stderr) == (driver.sanitizers, 0, "")
        assert f"{ROUNDS} rounds" in run.stdout
