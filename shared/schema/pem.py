"""Certificates and keys as documents hold them: PEM text, checked as far as it can be without a connection.

The law: what passes here can be loaded by a TLS library at its usual level of security, and a key belongs to its certificate.
No message shows a word of a key.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

# OpenSSL's security level 2 asks for 112 bits.
LEAST_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_WEAK_HASHES = ("md5", "sha1")


def load_chain(pem: str) -> list[x509.Certificate]:
    """The certificate and those that it is issued by, in order. Raises ValueError with the reason."""
    if "-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError(f"expected PEM that begins with -----BEGIN CERTIFICATE-----{_reference(pem)}")
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not a PEM certificate: {_first_line(error)}") from error


def check_certificate(pem: str) -> None:
    """Of a server or a client. Raises ValueError with the reason."""
    chain = load_chain(pem)
    for number, certificate in enumerate(chain, start=1):
        _check_strength(certificate, f"certificate {number}" if len(chain) > 1 else "the certificate")


def check_pair(pem: str, key: str) -> None:
    """Raises ValueError with the reason."""
    if "PRIVATE KEY-----" not in key:
        raise ValueError(f"failed to parse key: expected PEM with a private key{_reference(key)}")
    if "ENCRYPTED" in key:
        raise ValueError("failed to parse key: it is encrypted with a password, give it without")
    try:
        # A check of RSA's numbers takes longer than all else here; that they belong to the certificate is what counts.
        private = load_pem_private_key(key.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"failed to parse key: not a PEM private key: {_first_line(error)}") from error
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public != load_chain(pem)[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise ValueError("the key does not belong to the certificate")


def _check_strength(certificate: x509.Certificate, name: str) -> None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{name} has a public key that cannot be used: {_first_line(error)}") from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < LEAST_RSA_BITS:
            raise ValueError(f"{name} has an RSA key of {key.key_size} bits, expected at least {LEAST_RSA_BITS}")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise ValueError(f"{name} has a key on the curve {key.curve.name}, expected secp256r1, secp384r1 or secp521r1")
    elif not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        raise ValueError(f"{name} has a key of a kind that TLS does not use, expected RSA, EC, Ed25519 or Ed448")
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK_HASHES and not _signed_itself(certificate):
        raise ValueError(f"{name} is signed with {algorithm.name}, which no client accepts any more")


def _signed_itself(certificate: x509.Certificate) -> bool:
    """Nobody looks at the signature of a root."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _reference(text: str) -> str:
    """Where they may not stand."""
    return "; references to secrets are for plugins and for objects of the kind ssls" if text.startswith("$") else ""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". See ")[0]
