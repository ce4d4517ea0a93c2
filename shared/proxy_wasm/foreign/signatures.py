"""Envoy's `sign` and `verify_signature`: RSA (PKCS #1 v1.5), ECDSA and Ed25519 keys, in DER or PEM.

The law: a key that cannot be read is BAD_ARGUMENT; anything else that goes wrong is the result's own error text. A private key
never stands in an error.

A key is read once for each plugin context: with its checks an RSA private key takes 50 ms, more than a callback may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA224, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.foreign import protobuf

if TYPE_CHECKING:
    from shared.proxy_wasm.foreign.call import ForeignCall

_HASHES: dict[bytes, type[HashAlgorithm]] = {
    b"sha1": SHA1,
    b"sha224": SHA224,
    b"sha256": SHA256,
    b"sha384": SHA384,
    b"sha512": SHA512,
}
# Of one plugin context; a plugin that uses more reads them again.
MOST_KEYS = 32
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)


def verify_signature(call: ForeignCall) -> bytes | Status:
    """VerifySignatureArguments: hash_function = 1, public_key = 2 (DER), signature = 3, text = 4, public_key_pem = 5."""
    try:
        message = protobuf.fields(call.arguments)
        name, der, signature, text, pem = (protobuf.text(message, number) for number in range(1, 6))
        key = _read(call, "public", der, pem)
    except (protobuf.ProtobufError, *_UNREADABLE):
        return Status.BAD_ARGUMENT
    hash_ = _HASHES.get(name.lower())
    if hash_ is None:
        return _verified(_unknown(name))
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, text, PKCS1v15(), hash_())
        elif isinstance(key, EllipticCurvePublicKey):
            key.verify(signature, text, ECDSA(hash_()))
        elif isinstance(key, Ed25519PublicKey):
            key.verify(signature, text)
        else:
            return _verified(b"a key of this kind does not sign")
    except (InvalidSignature, *_UNREADABLE):
        return _verified(b"the signature does not fit")
    return _verified(b"")


def sign(call: ForeignCall) -> bytes | Status:
    """SignArguments: hash_function = 1, private_key = 2 (DER), text = 3, private_key_pem = 4."""
    try:
        message = protobuf.fields(call.arguments)
        name, der, text, pem = (protobuf.text(message, number) for number in range(1, 5))
        key = _read(call, "private", der, pem)
    except (protobuf.ProtobufError, *_UNREADABLE):
        return Status.BAD_ARGUMENT
    hash_ = _HASHES.get(name.lower())
    if hash_ is None:
        return protobuf.encode({3: _unknown(name)})
    try:
        if isinstance(key, RSAPrivateKey):
            signature = key.sign(text, PKCS1v15(), hash_())
        elif isinstance(key, EllipticCurvePrivateKey):
            signature = key.sign(text, ECDSA(hash_()))
        elif isinstance(key, Ed25519PrivateKey):
            signature = key.sign(text)
        else:
            return protobuf.encode({3: b"a key of this kind does not sign"})
    except _UNREADABLE:
        return protobuf.encode({3: b"the key cannot sign with this hash function"})
    return protobuf.encode({1: 1, 2: signature})


def _read(call: ForeignCall, kind: str, der: bytes, pem: bytes) -> object:
    """Raises what is in _UNREADABLE."""
    if bool(der) == bool(pem):
        raise ValueError("one key is needed, in DER or in PEM")
    known = call.state.setdefault("keys", {})
    assert isinstance(known, dict)
    name = (kind, der, pem)
    key = known.get(name)
    if key is None:
        if len(known) == MOST_KEYS:
            known.clear()
        with call.excused():
            key = known[name] = _LOAD[kind, bool(der)](der or pem)
    return key


_LOAD: dict[tuple[str, bool], Callable[[bytes], object]] = {
    ("private", True): lambda data: load_der_private_key(data, None),
    ("private", False): lambda data: load_pem_private_key(data, None),
    ("public", True): load_der_public_key,
    ("public", False): load_pem_public_key,
}


def _verified(error: bytes) -> bytes:
    """VerifySignatureResult: result = 1, error = 2."""
    return protobuf.encode({1: 0 if error else 1, 2: error})


def _unknown(name: bytes) -> bytes:
    return b"unknown hash function " + name
