"""What one plugin's VM may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """CPU in milliseconds of the calling thread's own clock, memory in bytes, log lines of one worker.

    A callback of a stream blocks every other request of its worker, so 20 ms is already long; start and configuration happen
    once. 128 MiB holds a Go runtime with room to spare. A held body of 1 MiB is Envoy's default buffer. A thousand log lines
    cost a worker a twentieth of a core. 16 MiB of shared data leave room for 32 such plugins.
    256 calls under way let a service that answers in 100 ms decide on 2500 requests a second and worker.

    `stream_cpu_ms` is of all callbacks of one stream together; None: no limit, and nothing is measured.
    """

    callback_cpu_ms: int = 20
    start_cpu_ms: int = 1000
    memory_bytes: int = 128 * 1024 * 1024
    body_buffer_bytes: int = 1024 * 1024
    stream_cpu_ms: int | None = None
    pending_callouts: int = 256
    log_lines_per_second: int = 1000
    shared_data_bytes: int = 16 * 1024 * 1024
