"""Every size, count and time that bounds a peer, in one place, each with its reason.

The law: a peer can make the gateway hold no more than these figures say. They are properties of this implementation; a few are
settings too (shared/tuning.py), and those are set here once, before a worker serves.
"""

from __future__ import annotations

# Envoy's edge advice is 32 KiB of buffer; nginx takes 4 fields of 8 KiB. Browsers stop cookies at about 4 KiB each.
REQUEST_HEAD_BYTES = 32 * 1024
# RFC 9112 section 3 asks for at least 8000 octets of request line.
TARGET_BYTES = 8 * 1024
# Go, Tomcat and Jetty allow 100 to 200; a browser sends about 20.
FIELDS = 100
# Answers carry policies and cookies: nginx with proxy_buffer_size raised, Envoy's default is 60 KiB.
RESPONSE_HEAD_BYTES = 64 * 1024
RESPONSE_FIELDS = 200
# Of a request's body, as it is before any coding: without a limit, as in APISIX, unless one is set.
BODY_BYTES = 1 << 62
# What a body above it is told; pressure.py lowers both for a while.
BODY_REFUSAL = "body_too_large"
# 100, 102 and 103 may precede an answer; more than this many is an upstream that never means to answer.
INTERIM_RESPONSES = 16
# RFC 9112 section 2.2 asks to skip at least one empty line before a request; some old clients send one after a body.
EMPTY_LINES = 4
# Bytes of chunked coding that are not body: a chunk of one byte costs 6, so 8 per body byte; the rest is for extensions
# and trailers, which are read and dropped (CVE-2023-39326).
CHUNK_OVERHEAD_BYTES = 16 * 1024
CHUNK_OVERHEAD_PER_BODY_BYTE = 8
# Bytes of pipelined requests that are held while one is being answered; above it the client is not read.
PIPELINE_BYTES = 64 * 1024

# nginx's client_header_timeout is 60 s; 10 s frees the slot of a slow sender six times sooner and is ample for 32 KiB.
HEAD_SECONDS = 10.0
# nginx's keepalive_timeout.
KEEPALIVE_SECONDS = 75.0
# A worker that goes away leaves idle clients so long to ask once more: a busy client's next request comes sooner.
DRAIN_IDLE_SECONDS = 1.0
# From the end of an idle client's time to its close: more than a round of the event loop.
LAST_LOOK_SECONDS = 0.01
# nginx's client_body_timeout: between two reads, not for the whole body.
BODY_IDLE_SECONDS = 60.0
# A body of known length must bring so many bytes on average between two looks at it (5 s), over so many looks: that is 100 a
# second, in a minute. Kestrel asks for 240. A chunked one may be a stream of events, and silent until BODY_IDLE_SECONDS.
BODY_BYTES_BETWEEN_LOOKS = 500
BODY_LOOKS = 12
# nginx's send_timeout; a client must take what is buffered (64 KiB) in this time, so about 1 KiB/s is the slowest.
SEND_SECONDS = 60.0
# Envoy's stream_idle_timeout: a plugin that pauses for ever must not keep a connection and a body for ever.
HELD_SECONDS = 300.0
# After an answer to an unfinished request, so that the client reads it before the connection resets (nginx: 30 s and 5 s).
LINGER_SECONDS = 30.0
LINGER_IDLE_SECONDS = 5.0

# nginx's keepalive_requests: a bound on what one connection may hold on to, and on uneven spread over workers.
CONNECTION_REQUESTS = 10_000
# One stream costs up to about 64 KiB a direction, so 10 000 busy ones stay near 1.3 GiB.
CONNECTIONS = 10_000
# Of heads that are not complete yet, of all clients of a worker together: 2,000 clients at the limit of each.
HELD_HEAD_BYTES = 64 * 1024 * 1024
# Kept from the file limit for the listener, the store, logs and modules.
RESERVED_FILES = 64
