"""`python -m tests.conformance` runs every case, prints the table, and writes docs/conformance.md."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conformance.cases import TABLE
from tests.conformance.run import run
from tests.conformance.table import page, runs
from tests.support.chain import KeptEngine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"


def main() -> int:
    engine = KeptEngine()
    failed = {}
    for row, version in runs(TABLE):
        reason = run(engine, row, version)
        sys.stdout.write(f"{'FAILED' if reason else 'passed'}  {version}  {row.subject}: {row.behaviour}\n")
        if reason:
            failed[row.subject, row.behaviour, version] = reason
            sys.stdout.write(f"        {reason}\n")
    engine.close()
    PAGE.write_text(page(TABLE, failed))
    sys.stdout.write(f"{sum(1 for _ in runs(TABLE)) - len(failed)} passed, {len(failed)} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
