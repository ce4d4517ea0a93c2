"""What TLS looks like on the wire, as far as somebody has to speak it who has no OpenSSL for the connection.

Source: RFC 8446 section 5.1 (records) and 6 (alerts), RFC 6066 section 3 (unrecognized_name), RFC 7301 section 3.2
(no_application_protocol).
"""

from __future__ import annotations

import re

# The most plain bytes in one record.
RECORD_BYTES = 1 << 14

# A record with a fatal alert, but for the last byte: which one it is.
ALERT = b"\x15\x03\x01\x00\x02\x02"
BAD_HELLO = b"\x32"
INTERNAL_ERROR = b"\x50"
UNRECOGNIZED_NAME = b"\x70"
NO_APPLICATION_PROTOCOL = b"\x78"

_HTTP = re.compile(rb"[A-Z]{3,16} ?[!-~]* ?[!-~]*[\r\n]?")


def looks_like_http(data: bytes) -> bool:
    """Somebody speaks HTTP in the clear here; the first bytes are enough."""
    return _HTTP.match(data) is not None
