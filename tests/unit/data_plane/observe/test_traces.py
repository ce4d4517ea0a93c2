"""The ring of traces: what is kept, what goes, and who may read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_plane.observe import traces
from data_plane.observe.traces import TraceStore, new_id


def document(entries: int = 1, size: int = 1) -> dict[str, object]:
    transcript = [{"name": "n" * size} for _ in range(entries)]
    return {"id": "x", "entries_dropped": 2, "transcript": transcript, "text": ["t" * size] * entries}


def test_what_was_put_can_be_read_by_its_id_alone(tmp_path: Path) -> None:
    store, trace_id = TraceStore(tmp_path), new_id()
    store.put(trace_id, document())
    assert store.get(trace_id) == document()
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    for other in (new_id(), "", "x", "../" + trace_id, trace_id.upper() + "g", "*"):
        assert store.get(other) is None


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_TRACES", 3)
    store, ids = TraceStore(tmp_path), [new_id() for _ in range(5)]
    for trace_id in ids:
        store.put(trace_id, document())
    assert [store.get(trace_id) is not None for trace_id in ids] == [False, False, True, True, True]


def test_a_long_transcript_is_cut_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_BYTES", 4000)
    store, trace_id = TraceStore(tmp_path), new_id()
    store.put(trace_id, document(100, 100))
    kept = store.get(trace_id)
    assert kept is not None
    assert len(json.dumps(kept)) <= 4000
    assert (len(kept["transcript"]), len(kept["text"])) == (12, 12)
    assert kept["entries_dropped"] == 2 + 88


def test_a_directory_that_is_gone_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        TraceStore(tmp_path / "gone").put(new_id(), document())
