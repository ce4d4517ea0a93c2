"""What every proxy of a run over TLS has alike: the certificate, the version and the cipher.

The law: wrk offers one cipher of TLS 1.3, so that nobody is faster for having chosen another.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from tests.support.tls import Authority

PAIR = Authority("bench").issue("bench.test")
CIPHER = "TLS_AES_128_GCM_SHA256"
# OpenSSL reads it for programs that have no option for it.
_OPENSSL = f"""openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = bench
[bench]
MinProtocol = TLSv1.3
Ciphersuites = {CIPHER}
"""


def client_environment(folder: Path) -> dict[str, str]:
    file = folder / "openssl.cnf"
    file.write_text(_OPENSSL)
    return {"OPENSSL_CONF": str(file)}


def anybody() -> ssl.SSLContext:
    """Of a client that does not care who answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
