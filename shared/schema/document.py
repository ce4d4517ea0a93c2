"""From bytes to a JSON document and back, strictly.

The law: what is decoded here can always be encoded again: no duplicate keys (the second would silently win), no NaN or
infinity, no lone surrogates, no nesting beyond what the decoder takes. Anything else is a `DocumentError` with why.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

# No configuration needs more, and recursive code downstream is safe with it.
MAX_DEPTH = 64
# Only such an escape can make a lone surrogate; UTF-8 itself cannot.
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class DocumentError(ValueError):
    """Bytes that are not one strict JSON text."""


def decode(data: bytes) -> Any:  # noqa: ANN401 - a JSON text may be anything
    """The decoded JSON text; raises DocumentError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise DocumentError(f"{error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise DocumentError("nested too deeply") from error
    except DocumentError:
        raise
    except ValueError as error:
        # An integer of more digits than CPython converts.
        raise DocumentError(str(error)) from error
    check_depth(document)
    if _SURROGATE_ESCAPE.search(data):
        _check_surrogates(document)
    return document


def encode(document: object) -> bytes:
    """Compact JSON, keys in the order of the document."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def check_depth(document: object) -> None:
    """Raises DocumentError for what `decode` would not take back."""
    level = [document]
    for _ in range(MAX_DEPTH):
        containers = [value for value in level if isinstance(value, dict | list)]
        level = [inner for value in containers for inner in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return
    raise DocumentError(f"nested deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise DocumentError(f"duplicate key {json.dumps(name)}")
            seen.add(name)
    return document


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise DocumentError(f"number out of range: {text[:32]}")
    return value


def _constant(text: str) -> float:
    raise DocumentError(f"{text} is not JSON")


def _check_surrogates(document: object) -> None:
    try:
        encode(document)
    except UnicodeEncodeError as error:
        raise DocumentError("a string has half of a surrogate pair") from error
