"""The plugin author's guide: its `console` blocks, typed word for word as those of the README."""

from __future__ import annotations

import re

from tests.e2e.test_readme_story import Ports, Shell, perform, ports, shell
from tests.support.command import ROOT

# The fixtures of that test.
__all__ = ["ports", "shell"]

GUIDE = ROOT / "docs" / "plugin-authors-guide.md"


def steps() -> list[tuple[str, str]]:
    blocks = re.findall(r"^```console\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    typed = [step.partition("\n") for block in blocks for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, shown) for command, _, shown in typed]


def test_the_guide_works_word_for_word(shell: Shell, ports: Ports) -> None:
    assert len(steps()) > 10
    # Where `push` asks which workers have the module.
    shell.run(f"export WASPGATE_CONTROL={ports.address('9090')}")
    for command, shown in steps():
        perform(shell, ports, command, shown)
