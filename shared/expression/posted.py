"""What a request's body says: the fields of a form, or values in JSON.

The law: a body that is not what its Content-Type says has no fields; of several fields with one name the first counts, as for
query arguments. Bodies come in full and bounded, see data_plane/exchange/choosing.py.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from shared.expression.operators import Value
from shared.schema.document import DocumentError, decode

_NAME = re.compile(rb'\bname="([^"\r\n]*)"')
_BOUNDARY = re.compile(rb'\bboundary=(?:"([^"]{1,70})"|([^;\s"]{1,70}))', re.IGNORECASE)
# Stands for every item of an array.
EACH = -1
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\*|[0-9]{1,6})\]")


def form_fields(text: bytes) -> dict[bytes, bytes]:
    """`application/x-www-form-urlencoded`, and the query of a target."""
    fields: dict[bytes, bytes] = {}
    for pair in text.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name:
            fields.setdefault(_decoded(name), _decoded(value))
    return fields


def posted_fields(content_type: bytes, body: bytes) -> dict[bytes, Value]:
    """The fields of a form of either kind."""
    kind = _kind(content_type)
    if kind == b"application/x-www-form-urlencoded":
        return dict(form_fields(body))
    return dict(_parts(content_type, body)) if kind == b"multipart/form-data" else {}


def posted_value(content_type: bytes, body: bytes, path: tuple[str | int, ...]) -> Value:
    """None where a JSON body has nothing at the path, or an object; an array is a tuple."""
    if _kind(content_type) != b"application/json":
        name = ".".join(str(step) for step in path).encode()
        return posted_fields(content_type, body).get(name)
    try:
        document: object = decode(body)
    except DocumentError:
        return None
    return _value(_at(document, path))


def parse_path(text: str) -> tuple[str | int, ...]:
    """`.model`, `.messages[0].role`, `.tags[*]`; raises ValueError."""
    steps: list[str | int] = []
    end = 0
    for match in _STEP.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        name, index = match.groups()
        steps.append(name if name is not None else EACH if index == "*" else int(index))
    if not steps or end != len(text):
        raise ValueError(f'invalid path "{text[1:80]}": expected names and indexes as in post_arg.messages[0].role or .tags[*]')
    return tuple(steps)


def _at(document: object, path: tuple[str | int, ...]) -> object:
    for number, step in enumerate(path):
        if isinstance(step, str):
            document = document.get(step) if isinstance(document, dict) else None
        elif not isinstance(document, list):
            return None
        elif step == EACH:
            return [_at(item, path[number + 1 :]) for item in document]
        else:
            document = document[step] if step < len(document) else None
    return document


def _value(found: object) -> Value:
    if isinstance(found, str):
        return found.encode()
    if isinstance(found, list):
        return tuple(_value(item) for item in found)
    return found if isinstance(found, bool | int | float) else None


def _parts(content_type: bytes, body: bytes) -> dict[bytes, bytes]:
    """Of `multipart/form-data`; files count as fields."""
    found = _BOUNDARY.search(content_type)
    fields: dict[bytes, bytes] = {}
    if found is None:
        return fields
    delimiter = b"\r\n--" + (found[1] or found[2])
    # What follows the delimiter of a part is the end of its line; of the last one it is `--`.
    for part in (b"\r\n" + body).split(delimiter)[1:]:
        head, mark, value = part.partition(b"\r\n\r\n")
        if mark and head.startswith(b"\r\n"):
            name = _NAME.search(head)
            if name is not None:
                fields.setdefault(name[1], value)
    return fields


def _kind(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip(b" \t").lower()


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text
