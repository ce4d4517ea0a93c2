"""The parts of fetching a module that need no network: references, addresses, layers, and the sandbox's wire."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.sandbox.wire import WireError, pack, unpack
from control_plane.sources.addresses import is_public
from control_plane.sources.failure import SourceError
from control_plane.sources.layers import ARCHIVES, MODULES, plugin_of
from shared.schema.oci_reference import OciReference
from tests.support.registry import archive

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("oci://r.example/a:1", OciReference("r.example", "a", "1")),
        ("oci://r.example:5000/a/b-c/d_e:v1.0-x", OciReference("r.example:5000", "a/b-c/d_e", "v1.0-x")),
        (f"oci://localhost/a@{DIGEST}", OciReference("localhost", "a", None, DIGEST)),
        (f"oci://[::1]:5000/a:1@{DIGEST}", OciReference("[::1]:5000", "a", "1", DIGEST)),
    ],
)
def test_references(text: str, reference: OciReference) -> None:
    assert OciReference.parse(text) == reference
    assert str(reference) == text
    assert reference.wanted == (reference.digest or reference.tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "r.example/a:1",
        "oci://r.example/a",
        "oci://r.example:1",
        "oci://r.example/A:1",
        "oci://r.example/a:",
        "oci://r.example/a:1@sha256:12",
        "oci://r.example/a:1@md5:" + "0" * 32,
        "oci://r.example//a:1",
        "oci://r.example/a/../b:1",
        "oci://user:password@r.example/a:1",
        "oci://r.example/a:1?x",
        "oci://r.example/a:1\n",
        "oci://r.example/" + "a" * 1024 + ":1",
    ],
)
def test_texts_that_are_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match="expected oci://HOST/REPOSITORY:TAG"):
        OciReference.parse(text)


@given(st.text(alphabet="oci:/@.ab-_[]sha256 \n01é", max_size=60))
def test_what_parses_is_written_as_it_was(text: str) -> None:
    try:
        reference = OciReference.parse("oci://" + text)
    except ValueError:
        return
    assert str(reference) == "oci://" + text


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.4",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "fec0::1",
        "::127.0.0.1",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "2002:7f00:1::",
        "2002:a00:1::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


LAYER = archive({"doc/readme": b"text" * 100, "plugin.wasm": bytes(range(256)) * 8})


@given(st.integers(0, len(LAYER) - 1), st.integers(0, 255), st.sampled_from(ARCHIVES))
def test_a_damaged_layer_is_unpacked_or_refused(at: int, byte: int, media_type: str) -> None:
    damaged = LAYER[:at] + bytes([byte]) + LAYER[at + 1 :]
    try:
        plugin_of(media_type, damaged)
    except SourceError:
        return


@given(st.binary(max_size=2000))
def test_bytes_that_are_no_layer(data: bytes) -> None:
    assert plugin_of(MODULES[0], data) == data
    with pytest.raises(SourceError):
        plugin_of(ARCHIVES[0], data)


def test_a_link_is_no_plugin() -> None:
    with pytest.raises(SourceError, match=r"has no file plugin\.wasm; it has plugins/plugin\.wasm"):
        plugin_of(ARCHIVES[0], archive({"plugins/plugin.wasm": b"x"}))


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.binary())
def test_what_is_packed_is_unpacked(document: dict[str, object], data: bytes) -> None:
    stream = io.BytesIO(b"".join(pack(document, data)))
    assert unpack(stream.read) == (document, data)


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\0\0\0\1\xff\xff\xff\xff", b"\0\0\0\2\0\0\0\0{x", b"\0\0\0\2\0\0\0\0\xff\xff"])
def test_a_side_that_speaks_otherwise(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(io.BytesIO(data).read)
