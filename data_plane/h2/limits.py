"""Every size, count and time that bounds a peer over HTTP/2, each with its reason; those of http/limits.py hold as well.

The law: a connection holds no more than these figures say, whatever its peer sends or does not read.
"""

from __future__ import annotations

# RFC 9113 6.5.2 asks for 100 at least; nginx's http2_max_concurrent_streams.
CONCURRENT_STREAMS = 128
# The default of RFC 9113 6.9.2: what one stream may send that nobody has taken yet.
STREAM_WINDOW = 65_535
# Envoy's advice for the edge: all streams of a connection together may be so far ahead.
CONNECTION_WINDOW = 1024 * 1024
# The smallest maximum that RFC 9113 6.5.2 allows: no frame makes the others wait for long, none is buffered that is larger.
FRAME_BYTES = 16_384
# Names, values and 32 bytes a field: what is above the limit of HTTP/1 heads is answered 431, what is above this ends the
# connection, since the rest of it cannot be skipped without being decoded (CVE-2016-6581).
HEADER_LIST_BYTES = 64 * 1024
# Bytes of one field block on the wire: Huffman coding and the tables only ever shrink it, CONTINUATION adds none
# (CVE-2024-27316).
FIELD_BLOCK_BYTES = 64 * 1024
CONTINUATIONS = 8
# Response bytes that wait in a stream before the upstream is no longer read.
HIGH_WATER_BYTES = 64 * 1024
# Answers to control frames that wait behind a client that does not read.
UNREAD_BYTES = 1024 * 1024

# The client's last word before it is closed: when it has answered the PING behind a GOAWAY, or after so long.
GOAWAY_SECONDS = 1.0
# A stream over which nothing moves in either direction: Envoy's stream_idle_timeout.
STREAM_IDLE_SECONDS = 300.0
