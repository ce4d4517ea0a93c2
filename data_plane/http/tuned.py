"""Puts what an operator tuned in the place of the figures that stand in limits.py.

The law: once, in a worker that serves nobody yet; whoever reads a limit reads it as if it had always been so.
"""

from __future__ import annotations

from data_plane.http import limits, reading
from data_plane.http.head import show_upstream_status_always
from data_plane.http.listener import SWEEP_SECONDS
from shared.tuning import Tuning


def tune(tuning: Tuning) -> None:
    limits.CONNECTIONS = tuning.max_connections
    limits.BODY_BYTES = tuning.client_max_body_size or limits.BODY_BYTES
    limits.BODY_BYTES_BETWEEN_LOOKS = int(tuning.client_body_min_rate * SWEEP_SECONDS)
    limits.HEAD_SECONDS = tuning.client_header_timeout
    limits.BODY_IDLE_SECONDS = tuning.client_body_timeout
    limits.SEND_SECONDS = tuning.send_timeout
    limits.KEEPALIVE_SECONDS = tuning.keepalive_timeout
    limits.CONNECTION_REQUESTS = tuning.keepalive_requests
    # A request looks it up as it is.
    reading.MOST_REQUESTS = tuning.keepalive_requests - 1
    if tuning.show_upstream_status_in_response_header:
        show_upstream_status_always()
