"""The file with the admin key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from control_plane.admin_key import AdminKeyError, load_or_create_admin_key


def test_made_once_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"

    key, path, created = load_or_create_admin_key(directory)

    assert created
    assert len(key) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_admin_key(directory) == (key, path, False)
    assert [file.name for file in directory.iterdir()] == [path.name]


def test_two_installations_have_different_keys(tmp_path: Path) -> None:
    assert load_or_create_admin_key(tmp_path / "a")[0] != load_or_create_admin_key(tmp_path / "b")[0]


def test_all_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: load_or_create_admin_key(tmp_path), range(32)))

    assert len({key for key, _, _ in results}) == 1
    assert sum(created for _, _, created in results) == 1


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    _, path, _ = load_or_create_admin_key(tmp_path)
    path.chmod(0o644)

    with pytest.raises(AdminKeyError, match=r"may be read by others \(mode 0644\)"):
        load_or_create_admin_key(tmp_path)


@pytest.mark.parametrize("content", ["", "\n", "a\nb", "sch\u00fcssel"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "admin.key"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(AdminKeyError, match="does not hold a key"):
        load_or_create_admin_key(tmp_path)
