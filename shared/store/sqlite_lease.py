"""The embedded store's leases: numbers with an end, whose keys are deleted when it comes.

The law: a lease ends once, whoever notices first, and all its keys go in one revision. Ends are wall-clock times, since
several processes share them.
"""

from __future__ import annotations

import secrets
import sqlite3
import time

from shared.store.sqlite_file import write_transaction
from shared.store.sqlite_record import delete_keys


def grant_lease(connection: sqlite3.Connection, ttl_seconds: int) -> int:
    # Random, so that a number is not given again to someone else while an old holder still remembers it.
    lease = secrets.randbits(62) + 1
    with write_transaction(connection):
        connection.execute("INSERT INTO lease VALUES (?, ?, ?)", (lease, ttl_seconds, time.time() + ttl_seconds))
    return lease


def keep_alive(connection: sqlite3.Connection, lease: int) -> bool:
    now = time.time()
    with write_transaction(connection):
        renewed = connection.execute(
            "UPDATE lease SET expires_at = ? + ttl_seconds WHERE id = ? AND expires_at > ?", (now, lease, now)
        ).rowcount
    return renewed == 1


def revoke_lease(connection: sqlite3.Connection, lease: int) -> bool:
    """True when keys went with it."""
    with write_transaction(connection):
        return _end_lease(connection, lease)


def has_expired_leases(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM lease WHERE expires_at <= ? LIMIT 1", (time.time(),)).fetchone() is not None


def expire_leases(connection: sqlite3.Connection) -> bool:
    """True when keys went with them. Safe from several processes at once: each looks again under the write lock."""
    with write_transaction(connection):
        expired = connection.execute("SELECT id FROM lease WHERE expires_at <= ?", (time.time(),)).fetchall()
        ended = [_end_lease(connection, lease) for (lease,) in expired]
        return any(ended)


def _end_lease(connection: sqlite3.Connection, lease: int) -> bool:
    connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
    keys: list[tuple[bytes]] = connection.execute("SELECT key FROM live WHERE lease = ? ORDER BY key", (lease,)).fetchall()
    return delete_keys(connection, [key for (key,) in keys])
