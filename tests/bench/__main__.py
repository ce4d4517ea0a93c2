"""`python -m tests.bench`, as `make bench` starts it: CPU per request of Waspgate beside Envoy and nginx.

The law: all listeners are on loopback, all files in a temporary folder, and all that was started is stopped, on ctrl-C
too. The exit code says whether the run worked (0), broke (1) or lacks a program (2), never how fast anything was.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from shared.store.contract import StoreError
from tests.bench import nginx, report
from tests.bench.cold_start import cold_start_seconds
from tests.bench.effect import put_to_effect
from tests.bench.errors import BenchError
from tests.bench.memory import bytes_per_thousand_contexts
from tests.bench.proxies import PROXIES
from tests.bench.result import Result
from tests.bench.rounds import compare
from tests.bench.tools import require, require_module

MEMORY, EFFECT, COLD_START = "memory", "effect", "cold-start"
CHOICES = (*(proxy.name for proxy in PROXIES), MEMORY, EFFECT, COLD_START)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        result = run(options.only, options.rounds, options.seconds)
        sys.stdout.write(report.text(result))
        if options.json is not None:
            report.write_json(result, options.json)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return error.exit_code
    except (OSError, HTTPException, StoreError) as error:
        sys.stderr.write(f"bench: the run broke: {error!r}\n")
        return BenchError.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def run(chosen: Sequence[str], rounds: int, seconds: int) -> Result:
    """Raises BenchError."""
    proxies = [proxy for proxy in PROXIES if proxy.name in chosen]
    require(dict.fromkeys(["nginx", "wrk", *(tool for proxy in proxies for tool in proxy.tools)]))
    require_module()
    setting = report.setting()
    with tempfile.TemporaryDirectory(prefix="waspgate-bench-") as name, nginx.upstream(Path(name)) as upstream:
        return Result(
            compare(proxies, _folder(name, "compare"), upstream.port, rounds, seconds),
            setting,
            bytes_per_thousand_contexts(_folder(name, MEMORY), upstream.port) if MEMORY in chosen else None,
            put_to_effect(_folder(name, EFFECT), upstream.port) if EFFECT in chosen else None,
            cold_start_seconds(_folder(name, COLD_START), upstream.port) if COLD_START in chosen else (),
        )


def _folder(parent: str, name: str) -> Path:
    folder = Path(parent) / name
    folder.mkdir()
    return folder


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="CPU per request beside Envoy and nginx.")
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each proxy is driven (%(default)s)")
    parser.add_argument("--seconds", type=_positive, default=4, help="how long each time (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=CHOICES, default=CHOICES, help="measure these instead of all")
    parser.add_argument("--json", type=_new_file, metavar="FILE", help="write all figures here too")
    return parser.parse_args(arguments)


def _new_file(text: str) -> Path:
    file = Path(text)
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}")
    return file


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
