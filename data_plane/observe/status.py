"""What a worker says of itself once a second, for the control API and the Prometheus page.

The law: plain values that become JSON as they stand; nobody but the worker that they tell of writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# `idle`: no request has needed it yet. `waiting`: it failed, and is left alone for `retry_in` seconds. `failed`: the next
# request starts it again. `refused`: it runs, and has refused every configuration that it was given.
PluginState = Literal["idle", "running", "waiting", "failed", "refused"]

# Of the places where a plugin refused its configuration, and of the problems of the configuration: the rest is counted.
REFUSALS_SHOWN = 20
PROBLEMS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class PluginError:
    """`at` is Unix time."""

    at: float
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where a plugin did not start, such as `route/1`, and why."""

    on: str
    reason: str


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """One plugin in one worker. `starts` to `cpu_seconds` only grow while the worker lives."""

    name: str
    sha256: str
    failure_policy: str
    state: PluginState
    retry_in: float | None
    starts: int
    failures: int
    streams_cut: int
    log_lines_dropped: int
    cpu_seconds: float
    memory_bytes: int
    contexts: int
    streams: int
    pending_callouts: int
    last_error: PluginError | None
    refusals: tuple[Refusal, ...]
    refusals_total: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """`problems` are the first of the configuration's, by store key; `ready` is false until there was a first configuration.
    `stale`: the store has not answered yet, and what was kept of it on disk is served. `tasks` are those of the event loop: a
    request that runs smoothly is none."""

    worker: int
    pid: int
    started_at: float
    ready: bool
    store_reachable: bool
    revision: int
    connections: int
    problems: Mapping[str, str]
    problems_total: int
    plugins: tuple[PluginStatus, ...]
    tasks: int = 0
    stale: bool = False
