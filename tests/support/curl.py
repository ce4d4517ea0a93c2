"""Stands in for curl on a machine that has none: only the options that the README uses, and curl's way to show answers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-i", action="store_true", dest="show_head")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="fields", action="append", default=[])
    parser.add_argument("-d", "--data-binary", dest="data")
    parser.add_argument("url")
    options = parser.parse_args()
    content = None
    if options.data is not None:
        content = Path(options.data[1:]).read_bytes() if options.data.startswith("@") else options.data.encode()
    method = options.method or ("GET" if content is None else "POST")
    fields = [tuple(field.split(": ", 1)) for field in options.fields]
    try:
        response = httpx.request(method, options.url, headers=fields, content=content, trust_env=False)
    except httpx.TransportError:
        return 7  # what curl answers when it cannot connect
    if options.show_head:
        lines = [f"HTTP/1.1 {response.status_code} {response.reason_phrase}"]
        lines += [f"{name.decode()}: {value.decode()}" for name, value in response.headers.raw]
        sys.stdout.buffer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    sys.stdout.buffer.write(response.content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
