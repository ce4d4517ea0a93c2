"""Keys of secrets: what is sealed opens with its key at its place, and nowhere else."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.secrets.keyring import MARK, SCHEME, Keyring, NoKeysError, SealError, new_key, read_keys
from shared.secrets.sources import FILE_NAME, check_keys_file, keyring_of, make_keys

ONE, TWO = bytes(range(32)), bytes(range(1, 33))
PLACE = "/apisix/ssls/1#key"
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(TEXT, TEXT)
def test_what_is_sealed_opens_at_its_place(text: str, place: str) -> None:
    keyring = Keyring([ONE])
    sealed = keyring.seal(text, place)
    assert sealed.startswith(SCHEME)
    assert keyring.open(sealed, place) == text
    assert keyring.seal(text, place) == sealed


@given(TEXT, TEXT, TEXT)
def test_another_place_does_not_open_it(text: str, place: str, other: str) -> None:
    keyring = Keyring([ONE])
    if place != other:
        with pytest.raises(SealError, match="was changed, or encrypted for another place"):
            keyring.open(keyring.seal(text, place), other)


def test_no_bit_of_it_may_change() -> None:
    keyring = Keyring([ONE])
    sealed = keyring.seal("secret", PLACE)
    head, _, data = sealed.rpartition("/")
    raw = base64.urlsafe_b64decode(data + "==")
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            keyring.open(f"{head}/{base64.urlsafe_b64encode(changed).decode().rstrip('=')}", PLACE)


def test_equal_texts_at_two_places_do_not_look_equal() -> None:
    keyring = Keyring([ONE])
    assert keyring.seal("secret", PLACE) != keyring.seal("secret", "/apisix/ssls/2#key")
    # Nor do a place and a text that only together are the same bytes.
    assert keyring.seal("bc", "a")[-8:] != keyring.seal("c", "ab")[-8:]


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    before = Keyring([ONE]).seal("secret", PLACE)
    after = Keyring([TWO, ONE])
    assert after.open(before, PLACE) == "secret"
    assert after.seal("secret", PLACE) == Keyring([TWO]).seal("secret", PLACE) != before


def test_a_missing_key_is_named() -> None:
    sealed = Keyring([ONE]).seal("secret", PLACE)
    (one,), (two,) = Keyring([ONE]).ids, Keyring([TWO]).ids
    with pytest.raises(SealError, match=f"is encrypted with the key {one}, and the keys here are {two} "):
        Keyring([TWO]).open(sealed, PLACE)
    with pytest.raises(SealError, match=f"is encrypted with the key {one}, and there are no keys here"):
        Keyring().open(sealed, PLACE)


@pytest.mark.parametrize("text", ["", SCHEME, f"{SCHEME}v2/00000000/AA", f"{SCHEME}v1/00000000/A A", f"{SCHEME}v1/00000000/"])
def test_what_is_nothing_sealed_is_refused(text: str) -> None:
    with pytest.raises(SealError, match="is not an encrypted value of a kind that is known here"):
        Keyring([ONE]).open(text, PLACE)


@given(st.text())
def test_whatever_lies_there_is_opened_or_refused(text: str) -> None:
    with pytest.raises(SealError):
        Keyring([ONE]).open(SCHEME + text, PLACE)


def test_without_keys_nothing_is_sealed() -> None:
    assert not Keyring()
    with pytest.raises(NoKeysError):
        Keyring().seal("secret", PLACE)


def test_a_mark_is_seen_in_json() -> None:
    assert f'"{SCHEME}'.encode() == MARK


@pytest.mark.parametrize(
    "form", [base64.b64encode(ONE).decode(), base64.urlsafe_b64encode(ONE).decode().rstrip("="), ONE.hex()]
)
def test_keys_are_read_as_they_are_made(form: str) -> None:
    assert read_keys(f"# ours\n{form}  # since May\n\n") == [ONE]
    assert read_keys(f"{new_key()},{form}")[1:] == [ONE]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("schl\u00fcssel", "key 1 is not base64"),
        ("c2hvcnQ=", "key 1 has 5 bytes, expected 32: make one with `waspgate secrets new-key`"),
        (f"{ONE.hex()}\n{ONE.hex()}", "a key stands there twice"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        read_keys(text)


def test_a_file_is_looked_at_again_when_a_key_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    keyring = Keyring(file=file)
    assert not keyring
    file.write_text(ONE.hex())
    sealed = Keyring([ONE]).seal("secret", PLACE)
    assert keyring.open(sealed, PLACE) == "secret"

    file.write_text(f"{TWO.hex()}\n{ONE.hex()}")
    os.utime(file, ns=(1, 1))
    assert keyring.seal("secret", PLACE) == Keyring([TWO]).seal("secret", PLACE)

    file.write_text("nonsense")
    os.utime(file, ns=(2, 2))
    assert keyring.open(sealed, PLACE) == "secret"


def test_keys_lie_beside_a_store_that_is_a_file(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/config.db"
    keyring = keyring_of(store)
    assert not keyring
    assert make_keys(tmp_path / FILE_NAME)
    assert not make_keys(tmp_path / FILE_NAME)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert keyring.open(keyring_of(store).seal("secret", PLACE), PLACE) == "secret"
    assert not keyring_of("etcd://127.0.0.1:2379")
    assert keyring_of(store, keys=ONE.hex()).ids == Keyring([ONE]).ids


def test_a_file_without_a_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with pytest.raises(ValueError, match=f"cannot read {file}: No such file"):
        check_keys_file(str(file))
    file.write_text("# none yet\n")
    with pytest.raises(ValueError, match=f"{file}: there is no key in it"):
        check_keys_file(str(file))
