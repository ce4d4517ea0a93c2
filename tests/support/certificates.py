"""Throw-away certificates for 127.0.0.1, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.etcd import Certificates

_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n"


def make_certificates(folder: Path) -> Certificates:
    """A certificate authority, and one certificate of it that serves as server and as client."""
    folder.mkdir(parents=True)
    ca, ca_key, request = folder / "ca.pem", folder / "ca.key", folder / "request.pem"
    files = Certificates(ca, folder / "cert.pem", folder / "key.pem")
    (folder / "names").write_text(_NAMES)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl("req", "-x509", *key, "-subj", "/CN=test authority", "-days", "2", "-keyout", ca_key, "-out", ca)
    _openssl("req", *key, "-subj", "/CN=test", "-keyout", files.key, "-out", request)
    signer = ["-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial", "-extfile", str(folder / "names")]
    _openssl("x509", "-req", "-in", request, *signer, "-days", "2", "-out", files.cert)
    return files


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
