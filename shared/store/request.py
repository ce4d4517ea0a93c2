"""What every engine takes in one request, checked before any engine sees it.

The law: both engines accept and refuse the same transactions, so that a configuration which fits the embedded store
also fits etcd. The figures are etcd's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared.store.contract import Delete, Expect, Put, TooLarge
from shared.store.keyspace import encode_key

# etcd: --max-request-bytes, of which each operation's own framing takes a little.
MAX_REQUEST_BYTES: Final = 1_572_864
OPERATION_OVERHEAD: Final = 64
REQUEST_OVERHEAD: Final = 512
# etcd: --max-txn-ops.
MAX_OPERATIONS: Final = 128


def check_transaction(expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> None:
    """Raises TooLarge, or ValueError for a key that is written twice (which has no meaning within one revision)."""
    if max(len(expect), len(operations)) > MAX_OPERATIONS:
        raise TooLarge(
            f"a transaction takes up to {MAX_OPERATIONS} conditions and as many operations, "
            f"got {len(expect)} and {len(operations)}"
        )
    written: set[str] = set()
    for operation in operations:
        if operation.key in written:
            raise ValueError(f"the key {operation.key!r} is written twice in one transaction")
        written.add(operation.key)
    size = REQUEST_OVERHEAD + sum(map(_size, (*expect, *operations)))
    if size > MAX_REQUEST_BYTES:
        raise TooLarge(f"a request of {size} bytes is over the limit of {MAX_REQUEST_BYTES} bytes")


def _size(part: Expect | Put | Delete) -> int:
    value = len(part.value) if isinstance(part, Put) else 0
    return len(encode_key(part.key)) + value + OPERATION_OVERHEAD
