"""A transcript: what a VM's callbacks and host calls were, in order, as they happened.

The law: recording changes nothing that the plugin can see, never raises, and keeps a bounded amount: so many entries, so many
bytes of a value. A call that ended in a trap has no result. What recording took is taken out of the times and out of the
plugin's CPU time; what is left of it, in the times only, is the way into Python and back, a few microseconds a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from shared.proxy_wasm import pairs
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.trace.signature import NAMES, Part, Signature, callback_signature, host_signature

# A plugin that reads a body of 1 MiB in pieces of 4 KiB makes 256 calls; whoever makes more repeats himself.
MAX_ENTRIES = 10_000
# Of one value: as much as anybody reads. The size is kept besides.
MAX_VALUE = 1024
# Of one header map: its count is kept besides.
MAX_PAIRS = 100
# Of a serialized map: the host takes no larger one.
MAX_PAIRS_SIZE = 1 << 20

ReadGuest = Callable[[int, int], "bytes | None"]


@dataclass(frozen=True, slots=True)
class Bytes:
    """The beginning of a byte string, and how long it was."""

    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class PairList:
    pairs: tuple[tuple[bytes, bytes], ...]
    count: int


@dataclass(frozen=True, slots=True)
class BadPointer:
    """The guest named memory that it does not have."""

    address: int
    size: int


Value = int | float | bool | str | Bytes | PairList | BadPointer
EntryKind = Literal["callback", "host_call", "note"]


@dataclass(slots=True)
class Entry:
    """`result` is a callback's answer or a host call's status as a number; None when it has none, or never returned.

    `inside` is how many calls were open around this one; `plugin` is empty where there is only one.
    """

    kind: EntryKind
    name: str
    arguments: list[tuple[str, Value]]
    inside: int
    answers: list[tuple[str, Value]] = field(default_factory=list)
    result: int | float | None = None
    result_kind: str = ""
    returned: bool = False
    nanoseconds: int = 0
    plugin: str = ""


class _Open:
    """A call that has not returned: its entry, its raw arguments and what is known of its time."""

    __slots__ = ("began", "entry", "numbers", "recording", "signature")

    def __init__(self, entry: Entry, signature: Signature | None, numbers: Sequence[int]) -> None:
        self.entry = entry
        self.signature = signature
        self.numbers = numbers
        self.began = 0
        self.recording = 0


class Transcript:
    """Records one VM (see instance.py, which binds it). The transcripts of several may share their `entries`, each with its
    plugin's name.
    """

    def __init__(self, entries: list[Entry] | None = None, plugin: str = "") -> None:
        self.entries: list[Entry] = [] if entries is None else entries
        self.plugin = plugin
        self.dropped = 0
        self.recording = True
        self._open: list[_Open] = []
        self._spent = 0
        self._read: ReadGuest = _no_memory
        self._clock: Callable[[], int] = int
        self._excuse: Callable[[float], None] = _keep_to_oneself

    def bind(self, read: ReadGuest, clock: Callable[[], int], excuse: Callable[[float], None]) -> None:
        """`read` answers the guest's memory, None out of range; `clock` counts nanoseconds; `excuse` is told the seconds that
        recording took.
        """
        self._read = read
        self._clock = clock
        self._excuse = excuse

    def note(self, name: str, **arguments: Value) -> None:
        """What the host did between calls."""
        self._keep(Entry("note", name, list(arguments.items()), len(self._open), returned=True))

    def take(self) -> list[Entry]:
        """Between calls, by the only one that records."""
        taken, self.entries = self.entries, []
        return taken

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is kept meanwhile."""
        before, self.recording = self.recording, False
        try:
            yield
        finally:
            self.recording = before

    # --- from the taps

    def enter_callback(self, name: str, numbers: Sequence[int]) -> None:
        # What a trap left open belongs to a call that is over.
        self._open.clear()
        self._enter("callback", name, callback_signature(name), numbers)

    def enter_host_call(self, name: str, numbers: Sequence[int]) -> None:
        self._enter("host_call", name, host_signature(name), numbers)

    def _enter(self, kind: EntryKind, name: str, signature: Signature | None, numbers: Sequence[int]) -> None:
        start = self._clock()
        entry = Entry(kind, name, self._arguments(signature, numbers), len(self._open))
        if signature is not None:
            entry.result_kind = signature.result
        opened = _Open(entry, signature, numbers)
        self._keep(entry)
        self._open.append(opened)
        opened.began = self._clock()
        self._account(opened.began - start)
        opened.recording = self._spent

    def leave(self, result: int | float | None) -> None:
        end = self._clock()
        if not self._open:
            return
        opened = self._open.pop()
        entry = opened.entry
        entry.returned = True
        entry.result = result
        entry.nanoseconds = max(0, end - opened.began - (self._spent - opened.recording))
        if entry.kind == "host_call":
            entry.answers = self._answers(opened)
        self._account(self._clock() - end)

    def _account(self, nanoseconds: int) -> None:
        self._spent += nanoseconds
        self._excuse(nanoseconds / 1e9)

    def _keep(self, entry: Entry) -> None:
        if not self.recording:
            return
        if len(self.entries) < MAX_ENTRIES:
            entry.plugin = self.plugin
            self.entries.append(entry)
        else:
            self.dropped += 1

    # --- values

    def _arguments(self, signature: Signature | None, numbers: Sequence[int]) -> list[tuple[str, Value]]:
        if not self.recording:
            return []
        if signature is None or signature.width != len(numbers):
            return [(str(position), number) for position, number in enumerate(numbers)]
        return [(part.name, self._argument(part, numbers)) for part in signature.parts if not part.is_answer]

    def _argument(self, part: Part, numbers: Sequence[int]) -> Value:
        if part.is_wide:
            return self._bytes(part.kind, numbers[part.at] & _U32, numbers[part.at + 1] & _U32)
        return _number(part.kind, numbers[part.at], _U64 if part.kind == "wide" else _U32)

    def _answers(self, opened: _Open) -> list[tuple[str, Value]]:
        """What the function wrote, when it says that it did."""
        signature, numbers = opened.signature, opened.numbers
        if not self.recording or signature is None or opened.entry.result != Status.OK or signature.width != len(numbers):
            return []
        return [(part.name, self._answer(part, numbers)) for part in signature.parts if part.is_answer]

    def _answer(self, part: Part, numbers: Sequence[int]) -> Value:
        address = numbers[part.at] & _U32
        if part.is_wide:
            start, size = self._word(address, 4), self._word(numbers[part.at + 1] & _U32, 4)
            # Some functions take a null pointer for an answer that is not wanted.
            return Bytes(b"", 0) if start is None or size is None else self._bytes(part.kind, start, size)
        width = 8 if part.kind in ("wide", "time") else 4
        number = self._word(address, width)
        return BadPointer(address, width) if number is None else _number(part.kind, number, _U64)

    def _word(self, address: int, width: int) -> int | None:
        data = self._read(address, width)
        return None if data is None else int.from_bytes(data, "little")

    def _bytes(self, kind: str, address: int, size: int) -> Value:
        if kind == "pairs" and size > MAX_PAIRS_SIZE:
            kind = "text"
        shown = size if kind == "pairs" else min(size, MAX_VALUE)
        data = self._read(address, shown) if size else b""
        if data is None or (size > shown and self._read(address + size - 1, 1) is None):
            return BadPointer(address, size)
        if kind == "path":
            return data.removesuffix(b"\0").replace(b"\0", b".").decode("utf-8", "backslashreplace")
        if kind == "pairs":
            return _pair_list(data)
        return Bytes(data, size)


_U32, _U64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def _number(kind: str, number: int, mask: int) -> Value:
    if kind == "signed":
        return number
    number &= mask
    names = NAMES.get(kind)
    return names[number] if names is not None and number < len(names) else number


def _pair_list(data: bytes) -> Value:
    try:
        found = pairs.decode(data)
    except ValueError:
        return Bytes(data[:MAX_VALUE], len(data))
    kept = tuple((name[:MAX_VALUE], value[:MAX_VALUE]) for name, value in found[:MAX_PAIRS])
    return PairList(kept, len(found))


def _no_memory(address: int, size: int) -> bytes | None:
    return None


def _keep_to_oneself(seconds: float) -> None: ...
