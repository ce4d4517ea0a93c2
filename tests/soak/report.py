"""The soak in three tables, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import quantiles

from tests.soak.books import Books, Kind
from tests.soak.watch import Watch


def report(books: Books, watch: Watch) -> str:
    done = ", ".join(f"{count} {what}" for what, count in sorted(books.done.items()))
    return "\n".join([*_kinds(books), "", done, "", *_workers(watch), ""])


def _kinds(books: Books) -> Iterator[str]:
    yield f"{'kind':22}{'answered':>10}{'failed':>8}{'excused':>9}{'p50 ms':>9}{'p99 ms':>9}"
    for name, kind in sorted(books.kinds.items()):
        half, most = _percentiles(kind)
        yield f"{name:22}{kind.answered:>10}{kind.failed:>8}{kind.excused:>9}{half:>9.1f}{most:>9.1f}"


def _percentiles(kind: Kind) -> tuple[float, float]:
    if len(kind.seconds) < 2:
        return 0.0, 0.0
    found = quantiles(kind.seconds, n=100)
    return found[49] * 1000, found[98] * 1000


def _workers(watch: Watch) -> Iterator[str]:
    yield f"{'worker':>7}{'pid':>9}{'samples':>9}{'MiB':>9}{'->':>7}{'files':>8}{'->':>6}{'tasks':>8}{'->':>6}"
    for one in sorted(watch.workers.values(), key=lambda one: (one.worker, one.pid)):
        if one.samples:
            memory, files, tasks = one.thirds("memory"), one.thirds("files"), one.thirds("tasks")
            cells = f"{memory[0] / 2**20:>9.1f}{memory[1] / 2**20:>7.1f}{files[0]:>8.0f}{files[1]:>6.0f}"
            yield f"{one.worker:>7}{one.pid:>9}{len(one.samples):>9}{cells}{tasks[0]:>8.0f}{tasks[1]:>6.0f}"
