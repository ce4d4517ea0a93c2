"""What one plugin's VM may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """CPU in milliseconds of the calling thread's own clock, memory in bytes.

    A callback of a stream blocks every other request of its worker, so 20 ms is already long; start and configuration happen
    once. 128 MiB holds a Go runtime with room to spare. A held body of 1 MiB is Envoy's default buffer.
    """

    callback_cpu_ms: int = 20
    start_cpu_ms: int = 1000
    memory_bytes: int = 128 * 1024 * 1024
    body_buffer_bytes: int = 1024 * 1024
