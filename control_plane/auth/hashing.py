"""Hashes of admin keys, as the settings file may hold them.

The law: a key that was made at random needs no slow hash, because nobody guesses 256 bits; one that a person chose does.

    sha256:{64 hex digits}              of a random key
    scrypt:{salt}:{hash}                base64, of any other (RFC 7914, N = 32768, r = 8, p = 1: 32 MiB and about 0.1 s)
"""

from __future__ import annotations

import base64
import binascii
import secrets
from hashlib import scrypt, sha256
from hmac import compare_digest
from typing import Final

# Base64 of 256 bits is 43 characters; a key of so many is taken for a random one.
RANDOM_LENGTH: Final = 43
_N, _R, _P = 1 << 15, 8, 1
_MEMORY = 64 << 20
_SALT_BYTES, _HASH_BYTES = 16, 32


def is_random(key: str | bytes) -> bool:
    return len(key) >= RANDOM_LENGTH


def digest(key: bytes) -> bytes:
    return sha256(key).digest()


def hash_key(key: str) -> str:
    """What stands in the settings for it."""
    if is_random(key):
        return f"sha256:{digest(key.encode()).hex()}"
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt:{_text(salt)}:{_text(_slow(key.encode(), salt))}"


def check_hash(text: str) -> None:
    """Raises ValueError."""
    kind, _, rest = text.partition(":")
    if kind == "sha256":
        known = len(rest) == 64 and all(character in "0123456789abcdef" for character in rest)
    elif kind == "scrypt":
        salt, _, hashed = rest.partition(":")
        known = len(_bytes(salt)) == _SALT_BYTES and len(_bytes(hashed)) == _HASH_BYTES
    else:
        known = False
    if not known:
        raise ValueError("expected a hash of a key as `waspgate secrets hash-key` prints it")


def fast_digest(text: str) -> bytes | None:
    """The digest in a hash of a random key."""
    return bytes.fromhex(text.partition(":")[2]) if text.startswith("sha256:") else None


def matches_slowly(key: bytes, text: str) -> bool:
    """Whether a hash of a chosen key is that of this one."""
    salt, _, hashed = text.removeprefix("scrypt:").partition(":")
    return compare_digest(_slow(key, _bytes(salt)), _bytes(hashed))


def _slow(key: bytes, salt: bytes) -> bytes:
    return scrypt(key, salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY, dklen=_HASH_BYTES)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
