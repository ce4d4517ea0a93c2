"""Zones of kept responses: bounded, shared, whole after a crash, made anew when they cannot be read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_plane.plugins.responses import HostResponses
from shared.limits.rows import EXPIRY
from shared.plugin.responses import ZoneFailed
from shared.proxy_wasm.state.directory import discard
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.responses import ResponseZone

NOW = 1_800_000_000.0


@pytest.fixture
def path() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made) / "zone.mdb"


def row(expires: float, body: bytes = b"") -> bytes:
    return EXPIRY.pack(expires) + body


def test_what_is_put_is_there_until_it_is_purged(path: Path) -> None:
    zone = ResponseZone(path, 1 << 20)
    assert zone.get(b"a1") is None
    for key in (b"a1", b"a2", b"b"):
        assert zone.put(key, row(NOW, key))
    assert zone.get(b"a1") == row(NOW, b"a1")
    assert zone.put(b"a1", row(NOW + 1, b"new"))
    assert zone.get(b"a1") == row(NOW + 1, b"new")
    assert [zone.purge(b"a"), zone.purge(b"a")] == [2, 0]
    assert (zone.get(b"a1"), zone.get(b"b")) == (None, row(NOW, b"b"))
    zone.close()
    with pytest.raises(ZoneFailed):
        zone.get(b"b")


def test_a_full_zone_lets_go_of_what_would_expire_first(path: Path) -> None:
    zone = ResponseZone(path, 4 << 20, clock=lambda: NOW)
    body = bytes(50_000)
    kept = sum(zone.put(b"%d" % number, row(NOW + number, body)) for number in range(300))
    found = zone.statistics()
    assert found["pages"] <= found["pages_limit"]
    assert found["evicted"] > 200
    assert kept > 290
    assert zone.get(b"0") is None
    assert zone.get(b"299") == row(NOW + 299, body)
    assert path.stat().st_size <= 4 << 20
    assert not zone.put(b"too long for it", row(NOW + 999, bytes(5 << 20)))
    assert zone.put(b"after", row(NOW + 999))
    zone.close()


def test_what_has_expired_goes_as_others_come(path: Path) -> None:
    now = [NOW]
    zone = ResponseZone(path, 8 << 20, clock=lambda: now[0])
    for number in range(2000):
        now[0] += 1
        zone.put(b"%d" % number, row(now[0] + 100, bytes(1000)))
    assert zone.statistics()["rows"] <= 103
    zone.close()


def test_a_zone_that_cannot_be_read_is_begun_anew(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    zone = ResponseZone(path, 1 << 20)
    assert zone.put(b"a", row(NOW))
    zone.close()


def test_a_zone_on_disk_outlives_the_gateway_and_one_in_memory_does_not(path: Path) -> None:
    for expected in (None, row(NOW, b"x")):
        state = HostState(path.parent / "state")
        responses = HostResponses(state, path.parent / "disk")
        memory, disk = responses.zone("memory", "memory_cache"), responses.zone("disk", "disk_cache_one")
        assert responses.zone("disk", "disk_cache_one") is disk
        assert (memory.get(b"a"), disk.get(b"a")) == (None, expected)
        assert memory.put(b"a", row(NOW, b"x"))
        assert disk.put(b"a", row(NOW, b"x"))
        responses.close()
        state.close()
        discard(path.parent / "state")


def test_without_shared_memory_there_is_no_zone_in_it(path: Path) -> None:
    responses = HostResponses(None, path.parent / "disk")
    with pytest.raises(ZoneFailed, match="share no memory"):
        responses.zone("memory", "memory_cache").get(b"a")
    responses.close()
