"""Fixtures of the Admin API's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.store.contract import ConfigStore
from shared.store.url import open_store
from tests.support.admin import Admin, admin


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ConfigStore]:
    async with open_store(f"sqlite:///{tmp_path}/config.db") as opened:
        yield opened


@pytest.fixture
async def api(store: ConfigStore) -> AsyncIterator[Admin]:
    async with admin(store) as opened:
        yield opened
