"""The keys under which secrets lie in the store, and what a secret looks like there.

The law: the first key encrypts, all decrypt. A sealed text opens only at the place that it was sealed for (a property of one
resource), so that whoever can write to the store cannot move a secret to where it is shown. The same text at the same place
under the same key is always sealed to the same bytes: a write that changes nothing looks like that.

    $encrypted://v1/{id of the key}/{base64url of nonce, ciphertext and tag}

AES-256-GCM. The nonce is a keyed hash of the place and the text, which tells no more than that a secret is what it was before.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

log = structlog.get_logger(__name__)

SCHEME: Final = "$encrypted://"
# As bytes of JSON: a value without it holds nothing sealed.
MARK: Final = b'"$encrypted://'
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SEALED: Final = re.compile(r"\$encrypted://v1/(?P<key>[0-9a-f]{8})/(?P<data>[A-Za-z0-9_-]+)")


class SealError(ValueError):
    """A sealed text that cannot be opened here; the message names the key, never a secret."""


class NoKeysError(Exception):
    """A secret is to be written, and there is no key for it."""


class Key:
    """256 random bits, and what is derived from them."""

    __slots__ = ("_cipher", "_nonces", "id")

    def __init__(self, bits: bytes) -> None:
        if len(bits) != KEY_BYTES:
            raise ValueError(f"expected {KEY_BYTES} bytes, got {len(bits)}")
        self._cipher = AESGCM(_derived(bits, b"cipher"))
        self._nonces = _derived(bits, b"nonces")
        self.id = _derived(bits, b"id")[:4].hex()

    def seal(self, text: str, place: str) -> str:
        plain, associated = text.encode(), place.encode()
        # The length keeps a place and a text apart.
        said = len(associated).to_bytes(4, "big") + associated + plain
        nonce = hmac.digest(self._nonces, said, sha256)[:_NONCE_BYTES]
        data = nonce + self._cipher.encrypt(nonce, plain, associated)
        return f"{SCHEME}v1/{self.id}/{base64.urlsafe_b64encode(data).decode().rstrip('=')}"

    def open(self, data: bytes, place: str) -> str:
        """Raises InvalidTag."""
        return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place.encode()).decode()


def _derived(bits: bytes, purpose: bytes) -> bytes:
    return HKDFExpand(SHA256(), KEY_BYTES, b"waspgate secrets v1 " + purpose).derive(bits)


class Keyring:
    """`file`: where the keys come from, if they do. It is looked at again when a key is missing or one is needed to encrypt, so
    that a rotation needs no restart; what cannot be read then leaves the keys that were read before."""

    __slots__ = ("_by_id", "_file", "_first", "_stamp")

    def __init__(self, keys: Sequence[bytes] = (), file: Path | None = None) -> None:
        """Raises ValueError."""
        self._file = file
        self._stamp = 0
        self._first: Key | None = None
        self._by_id: dict[str, Key] = {}
        self._take(keys)
        self._look_again()

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._by_id)}>"

    def __bool__(self) -> bool:
        return self._first is not None

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._by_id)

    def seal(self, text: str, place: str) -> str:
        """Raises NoKeysError."""
        self._look_again()
        if self._first is None:
            raise NoKeysError
        return self._first.seal(text, place)

    def open(self, sealed: str, place: str) -> str:
        """Raises SealError."""
        match = _SEALED.fullmatch(sealed)
        if match is None:
            raise SealError("is not an encrypted value of a kind that is known here")
        key = self._by_id.get(match["key"])
        if key is None:
            self._look_again()
            key = self._by_id.get(match["key"])
        if key is None:
            known = f"the keys here are {', '.join(self._by_id)}" if self._by_id else "there are no keys here"
            raise SealError(f"is encrypted with the key {match['key']}, and {known} (see --encryption-keys-file)")
        try:
            return key.open(base64.urlsafe_b64decode(match["data"] + "=="), place)
        except (InvalidTag, ValueError) as error:
            raise SealError(f"was changed, or encrypted for another place, with the key {key.id}") from error

    def _take(self, keys: Sequence[bytes]) -> None:
        found = [Key(bits) for bits in keys]
        self._by_id = {key.id: key for key in found}
        self._first = found[0] if found else None

    def _look_again(self) -> None:
        if self._file is None:
            return
        try:
            stamp = os.stat(self._file).st_mtime_ns
            if stamp != self._stamp:
                self._take(read_keys(self._file.read_text()))
                self._stamp = stamp
        except FileNotFoundError:
            # Made together with the first control plane.
            return
        except (OSError, ValueError) as error:
            log.warning("encryption keys cannot be read", path=str(self._file), reason=str(error))


def read_keys(text: str) -> list[bytes]:
    """Base64 or hex of 32 bytes each, in lines or with commas between; `#` begins a comment. Raises ValueError."""
    keys = [_bits(number, word) for number, word in enumerate(_words(text), start=1)]
    if len(set(keys)) < len(keys):
        raise ValueError("a key stands there twice")
    return keys


def _words(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from line.partition("#")[0].replace(",", " ").split()


def _bits(number: int, word: str) -> bytes:
    if re.fullmatch("[0-9a-f]{64}", word):
        return bytes.fromhex(word)
    plain = word.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        bits = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"key {number} is not base64") from error
    if len(bits) != KEY_BYTES:
        raise ValueError(f"key {number} has {len(bits)} bytes, expected {KEY_BYTES}: make one with `waspgate secrets new-key`")
    return bits


def new_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode().rstrip("=")
