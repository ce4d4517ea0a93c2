"""Puts the example configuration into a running gateway, through its Admin API.

    python deploy/example/apply.py --admin 127.0.0.1:9180 --key-file PATH --module .build/plugins/c-greeting.wasm

The law: every step is one request that an operator could type, in an order in which nothing refers to what is not there
yet; done twice it changes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

GREETING = {"header": "x-greeting", "value": "hello from a Wasm plugin", "reply_path": "/blocked", "reply_body": "no\n"}


def documents(upstreams: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """What follows the plugin, in order: a service that has it, and two routes that inherit it from the service."""
    service = {
        "plugins": {"greeting": {"conf": GREETING}},
        "upstream": {"type": "roundrobin", "nodes": dict.fromkeys(upstreams, 1)},
    }
    return [
        ("services/example", service),
        ("routes/hello", {"uri": "/hello", "service_id": "example"}),
        ("routes/blocked", {"uri": "/blocked", "service_id": "example"}),
    ]


def apply(admin: str, key: str, module: Path, upstreams: Sequence[str]) -> None:
    """Raises httpx.HTTPError, with the gateway's own words where it answered."""
    base = f"http://{admin}/apisix/admin/"
    with httpx.Client(base_url=base, headers={"X-API-KEY": key}, timeout=30, trust_env=False) as client:
        wasm = {"content-type": "application/wasm"}
        _check(client.put("wasm_plugins/greeting/module", content=module.read_bytes(), headers=wasm))
        for path, document in documents(upstreams):
            _check(client.put(path, json=document))


def _check(response: httpx.Response) -> None:
    if response.is_error:
        what = f"{response.request.method} {response.request.url.path}"
        raise httpx.HTTPError(f"{what} was answered with {response.status_code}: {response.text.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the example configuration into a running gateway.")
    parser.add_argument("--admin", default="127.0.0.1:9180", metavar="HOST:PORT")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="else WASPGATE_ADMIN_KEY")
    parser.add_argument("--module", type=Path, required=True, metavar="FILE", help="the greeting plugin, compiled")
    parser.add_argument("--upstream", action="append", metavar="HOST:PORT", help="may be repeated; default 127.0.0.1:9099")
    options = parser.parse_args()
    key = options.key_file.read_text().strip() if options.key_file else os.environ.get("WASPGATE_ADMIN_KEY", "")
    if not key:
        parser.error("no admin key: give --key-file or set WASPGATE_ADMIN_KEY")
    try:
        apply(options.admin, key, options.module, options.upstream or ["127.0.0.1:9099"])
    except (httpx.HTTPError, OSError) as error:
        sys.exit(f"apply: {error}")


if __name__ == "__main__":
    main()
