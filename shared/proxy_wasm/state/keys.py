"""How names become keys: of a fixed shape, short enough for LMDB, in an order that makes each question one range.

The law: a key begins with what its rows are asked for together. Numbers are big-endian, so that LMDB's order is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lmdb

U32 = Struct(">I")
U64 = Struct(">Q")

# LMDB takes keys of up to 511 bytes; a longer name is known by its digest. Most are shorter and stay readable.
_LONGEST_NAME = 255
_DIGEST_BYTES = 32
# 128 bits: enough that two vm_ids never meet, and short, since every key of a plugin's data begins with it.
VM_BYTES = 16


@lru_cache(maxsize=1024)
def vm_key(vm_id: str) -> bytes:
    """Bytes of a vm_id that are no UTF-8 may come as surrogate escapes."""
    return blake2b(vm_id.encode("utf-8", "surrogateescape"), digest_size=VM_BYTES).digest()


def name_key(name: bytes) -> bytes:
    """The first byte keeps a long name's digest apart from a short name with the same bytes."""
    if len(name) <= _LONGEST_NAME:
        return b"=" + name
    return b"#" + blake2b(name, digest_size=_DIGEST_BYTES).digest()


def rows(txn: lmdb.Transaction[bytes], table: lmdb._Database, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """The rows whose key begins with `prefix`, in order. Read them all before changing the table."""
    with txn.cursor(table) as cursor:
        found = cursor.set_range(prefix) if prefix else cursor.first()
        while found:
            key, value = cursor.item()
            if not key.startswith(prefix):
                return
            yield key, value
            found = cursor.next()
