"""HPACK with a memory: what most messages of a connection repeat is coded once.

The law: a block means what the table of its moment makes it mean, so what is remembered is forgotten whenever the table
changes, and what changed it is not remembered. After a few messages most blocks are nothing but references to the table; coding
one takes hpack 20 to 60 us (CPython 3.11), looking it up 1.

Source: RFC 7541.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hpack import Decoder, Encoder, HeaderTuple
from hpack.table import HeaderTable

# Of a connection and a direction; one remembers at most some 10 KiB so.
BLOCKS = 16
BLOCK_BYTES = 128


class FieldBlock(list[HeaderTuple]):
    """The fields of a block that may come again. `head` is what became of it, if somebody wants to keep that."""

    __slots__ = ("head",)

    def __init__(self, fields: Iterable[HeaderTuple]) -> None:
        super().__init__(fields)
        self.head: bytes | None = None


class _Table(HeaderTable):
    """Counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    def _resize(self, size: int) -> None:
        self.changes += 1
        due = self.resized
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined]  # mypy takes it for a number
        # hpack forgets a size that the peer does not know yet when it is set once more.
        self.resized = self.resized or due

    maxsize = property(lambda self: self._maxsize, _resize)


class RememberingDecoder(Decoder):
    def __init__(self, max_header_list_size: int) -> None:
        super().__init__(max_header_list_size)
        self._table = self.header_table = _Table()
        self._known: dict[bytes, FieldBlock] = {}
        self._as_of = 0

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """`raw` as h2 always wants it."""
        table, known = self._table, self._known
        if table.changes != self._as_of:
            known.clear()
        else:
            block = known.get(data)
            if block is not None:
                return block
        self._as_of = table.changes
        fields = super().decode(data, raw)
        if table.changes != self._as_of or len(data) > BLOCK_BYTES or len(known) >= BLOCKS:
            return fields
        block = known[bytes(data)] = FieldBlock(fields)
        return block


class RememberingEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self._table = self.header_table = _Table()
        self._known: dict[tuple[Any, ...], bytes] = {}
        self._as_of = 0

    def encode(self, headers: Any, huffman: bool = True) -> bytes:  # noqa: ANN401 - as hpack has it
        table, known = self._table, self._known
        fields = tuple(headers)
        if table.changes != self._as_of:
            known.clear()
        elif not table.resized:
            block = known.get(fields)
            if block is not None:
                return block
        self._as_of = table.changes
        block = super().encode(fields, huffman)
        if table.changes == self._as_of and len(block) <= BLOCK_BYTES and len(known) < BLOCKS:
            known[fields] = block
        return block
