"""A transcript as people read it, and as programs do.

The law: `lines` without times depends on the plugin and its input only, so that it can be kept and compared; what is
different at every run (clocks) is left out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shared.proxy_wasm.trace.signature import NAMES, STATUS_NAMES
from shared.proxy_wasm.trace.transcript import BadPointer, Bytes, Entry, PairList, Value

# Of one value in a line; the size stands behind it.
SHOWN = 80
# A note may have a whole head.
SHOWN_OF_NOTE = 2048
SHOWN_PAIRS = 12
# Answers that no second run repeats.
_PASSING = frozenset({"time"})
_INDENT = "    "


def lines(entries: Iterable[Entry], *, times: bool) -> Iterator[str]:
    """A call's own line, those of the calls that it made, and for a callback its result. A plugin's name where another's turn
    begins."""
    waiting, plugin = list[Entry](), ""
    for entry in entries:
        while waiting and entry.inside <= waiting[-1].inside:
            yield from _result(waiting.pop(), times)
        if entry.plugin != plugin and entry.plugin:
            yield f"[{entry.plugin}]"
        plugin = entry.plugin
        yield from _call(entry, times)
        if entry.kind == "callback":
            waiting.append(entry)
    while waiting:
        yield from _result(waiting.pop(), times)


def _call(entry: Entry, times: bool) -> Iterator[str]:
    shown = SHOWN_OF_NOTE if entry.kind == "note" else SHOWN
    arguments = ", ".join(f"{name}={value_text(value, shown)}" for name, value in entry.arguments)
    indent = _INDENT * entry.inside
    if entry.kind == "note":
        yield f"{indent}{entry.name}{' ' if arguments else ''}{arguments}"
    elif entry.kind == "callback":
        yield f"{indent}{entry.name}({arguments})"
    else:
        yield f"{indent}{entry.name}({arguments}) -> {_status(entry)}{_answers(entry)}{_time(entry, times)}"


def _result(entry: Entry, times: bool) -> Iterator[str]:
    """Nothing to say of a callback without a result, unless it failed or its time is wanted."""
    result = "returned" if times else ""
    if not entry.returned:
        result = "did not return"
    elif entry.result is not None and entry.result_kind:
        result = _number(entry.result_kind, entry.result)
    if result:
        yield f"{_INDENT * (entry.inside + 1)}-> {result}{_time(entry, times)}"


def _status(entry: Entry) -> str:
    if not entry.returned:
        return "did not return"
    if entry.result is None:
        return "()"
    # WASI and the functions of toolchains have statuses of their own.
    return STATUS_NAMES.get(int(entry.result), str(entry.result)) if entry.name.startswith("proxy_") else str(entry.result)


def _answers(entry: Entry) -> str:
    shown = [f"{name}={'...' if name in _PASSING else value_text(value)}" for name, value in entry.answers]
    return "".join(f", {answer}" for answer in shown)


def _time(entry: Entry, times: bool) -> str:
    return f"  ({entry.nanoseconds / 1000:.1f} us)" if times and entry.returned else ""


def _number(kind: str, number: float) -> str:
    names = NAMES[kind]
    return names[int(number)] if 0 <= number < len(names) else str(number)


def value_text(value: Value, most: int = SHOWN) -> str:
    if isinstance(value, Bytes):
        shown = quoted(value.data[:most])
        return shown if value.size <= most else f"{shown}... ({value.size} bytes)"
    if isinstance(value, PairList):
        fields = [f"{quoted(name)}: {quoted(text[:SHOWN])}" for name, text in value.pairs[:SHOWN_PAIRS]]
        if value.count > len(fields):
            fields.append(f"... ({value.count} pairs)")
        return f"{{{', '.join(fields)}}}"
    if isinstance(value, BadPointer):
        return f"(no memory at {value.address:#x}, {value.size} bytes)"
    return str(value)


def quoted(data: bytes) -> str:
    """In double quotes; what is not printable is escaped, text in UTF-8 is not."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return '"' + "".join(chr(byte) if _plain(chr(byte)) and byte < 128 else f"\\x{byte:02x}" for byte in data) + '"'
    return '"' + "".join(letter if _plain(letter) else _escaped(letter) for letter in text) + '"'


def _plain(letter: str) -> bool:
    return letter.isprintable() and letter not in '"\\'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def _escaped(letter: str) -> str:
    known = _ESCAPES.get(letter)
    if known is not None:
        return known
    return f"\\x{ord(letter):02x}" if ord(letter) < 256 else f"\\u{ord(letter):04x}"


def as_json(entry: Entry) -> dict[str, object]:
    """One entry for programs: bytes as text where they are UTF-8."""
    shown: dict[str, object] = {
        "kind": entry.kind,
        "name": entry.name,
        "inside": entry.inside,
        "arguments": {name: _json_value(value) for name, value in entry.arguments},
    }
    if entry.plugin:
        shown["plugin"] = entry.plugin
    if entry.kind == "note":
        return shown
    shown["answers"] = {name: _json_value(value) for name, value in entry.answers}
    shown["returned"] = entry.returned
    if entry.result is not None and entry.kind == "host_call":
        shown["status"] = _status(entry)
    elif entry.result is not None:
        shown["result"] = _number(entry.result_kind, entry.result) if entry.result_kind else entry.result
    shown["microseconds"] = round(entry.nanoseconds / 1000, 1)
    return shown


def _json_value(value: Value) -> object:
    if isinstance(value, Bytes):
        text = value.data.decode("utf-8", "backslashreplace")
        return text if value.size == len(value.data) else {"beginning": text, "size": value.size}
    if isinstance(value, PairList):
        return [[part.decode("utf-8", "backslashreplace") for part in pair] for pair in value.pairs]
    if isinstance(value, BadPointer):
        return {"no_memory_at": value.address, "size": value.size}
    return value
