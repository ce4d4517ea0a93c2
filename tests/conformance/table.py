"""The table of the ABI: what each function and callback does, in each version, and whether it was seen to.

The law: a row is one behaviour of one subject, shown by one case against a real guest; a case that raises has failed. The page
is written from the rows and their results alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from shared.proxy_wasm.abi import CALLBACKS, HOST_FUNCTIONS, WASI_FUNCTIONS, AbiVersion
from tests.conformance.stage import Stage

ALL = tuple(AbiVersion)
LATER = (AbiVersion.V0_2_0, AbiVersion.V0_2_1)
FIRST = (AbiVersion.V0_1_0,)

Act = Callable[[Stage], None]


@dataclass(frozen=True)
class Row:
    subject: str
    behaviour: str
    act: Act
    versions: tuple[AbiVersion, ...]


class Table:
    """Rows by their subject, in the order in which they were added."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row] = {}

    def case(self, subject: str, behaviour: str, versions: tuple[AbiVersion, ...] = ALL) -> Callable[[Act], Act]:
        def add(act: Act) -> Act:
            assert (subject, behaviour) not in self._rows, f"twice: {subject}: {behaviour}"
            self._rows[subject, behaviour] = Row(subject, behaviour, act, versions)
            return act

        return add

    def asks(
        self,
        subject: str,
        behaviour: str,
        commands: str | tuple[str, ...],
        *answers: str,
        versions: tuple[AbiVersion, ...] = ALL,
    ) -> None:
        """In a whole exchange, the plugin's commands have these answers."""
        script = (commands,) if isinstance(commands, str) else commands

        def act(stage: Stage) -> None:
            stage.expect(stage.answers(*script), list(answers))

        self.case(subject, behaviour, versions)(act)

    def rows(self) -> list[Row]:
        """In the order of the ABI's own tables; what is no function or callback comes last."""
        order = {name: at for at, name in enumerate((*CALLBACKS, *HOST_FUNCTIONS, *WASI_FUNCTIONS))}
        return sorted(self._rows.values(), key=lambda row: order.get(row.subject, len(order)))

    def subjects(self) -> set[str]:
        return {row.subject for row in self._rows.values()}


TABLE = Table()

Results = Mapping[tuple[str, str, AbiVersion], str]


def runs(table: Table) -> Iterator[tuple[Row, AbiVersion]]:
    for row in table.rows():
        for version in row.versions:
            yield row, version


def page(table: Table, results: Results) -> str:
    """`results` has the reason of each case that failed."""
    total = sum(1 for _ in runs(table))
    lines = [
        *("# Conformance", ""),
        "What every callback and host function of Proxy-Wasm 0.1.0, 0.2.0 and 0.2.1 does here, and every function of WASI:",
        "each behaviour is shown by a plugin. `make conformance` runs the cases and writes this page, `make test` runs them",
        "too, and fails when the page is old. An empty cell: the version has no such behaviour, or another one.",
        *("", f"{total - len(results)} of {total} passed.", ""),
    ]
    for subject, rows in groupby(table.rows(), key=lambda row: row.subject):
        lines += [f"## {_title(subject)}", "", "| behaviour | 0.1.0 | 0.2.0 | 0.2.1 |", "|---|---|---|---|"]
        lines += [f"| {row.behaviour} | {' | '.join(_cell(row, version, results) for version in AbiVersion)} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _title(subject: str) -> str:
    return f"`{subject}`" if "_" in subject else subject


def _cell(row: Row, version: AbiVersion, results: Results) -> str:
    if version not in row.versions:
        return ""
    return "**failed**" if (row.subject, row.behaviour, version) in results else "passed"
