"""What is remembered of HPACK is what hpack would have said, whatever happens to the table in between."""

from __future__ import annotations

from hpack import Decoder, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError
from hypothesis import example, given
from hypothesis import strategies as st

from data_plane.h2.compression import BLOCKS, FieldBlock, RememberingDecoder, RememberingEncoder

names = st.sampled_from([b":method", b":path", b"a", b"b", b"authorization"])
values = st.sampled_from([b"GET", b"/", b"", b"1", b"2", b"x" * 40])
lists = st.lists(st.tuples(names, values), min_size=1, max_size=4)
# A size of the table, or fields.
steps = st.lists(st.one_of(st.integers(0, 200), lists), min_size=2, max_size=12)


@given(steps, st.booleans())
@example([100, 100, [(b"a", b"x" * 40), (b"b", b"x" * 40), (b"a", b"x" * 40)]], False)
def test_both_ends_stay_in_step(steps: list[int | list[tuple[bytes, bytes]]], remembers: bool) -> None:
    encoder = RememberingEncoder()
    decoder = RememberingDecoder(65_536) if remembers else Decoder()
    for step in [*steps, *steps]:
        if isinstance(step, int):
            encoder.header_table_size = step
        else:
            assert [tuple(field) for field in decoder.decode(encoder.encode(step), raw=True)] == step


blocks = st.one_of(
    # References, literals with and without a place in the table, sizes of it, and noise.
    st.lists(
        st.sampled_from([b"\x82", b"\xbe", b"\xbf", b"\x40\x01a\x01b", b"\x40\x01a\x01c", b"\x00\x01d\x01e"]), max_size=4
    ).map(b"".join),
    st.sampled_from([b"\x20", b"\x3f\x09", b"\x3f\xe1\x1f\x82", b"\x20\xbe"]),
    st.binary(max_size=6),
)


@given(st.lists(blocks, max_size=15))
def test_any_blocks_mean_what_they_mean_without_a_memory(data: list[bytes]) -> None:
    one, other = RememberingDecoder(65_536), Decoder()
    for block in [*data, *data]:
        try:
            expected = [tuple(field) for field in other.decode(block, raw=True)]
        except (HPACKError, IndexError, UnicodeDecodeError):
            return
        assert [tuple(field) for field in one.decode(block, raw=True)] == expected


def test_a_block_that_comes_again_is_the_same_and_few_are_kept() -> None:
    decoder = RememberingDecoder(65_536)
    assert isinstance(decoder.decode(b"\x82", raw=True), FieldBlock)
    assert decoder.decode(b"\x82", raw=True) is decoder.decode(b"\x82", raw=True)
    for size in range(2, BLOCKS + 5):
        kept = decoder.decode(b"\x82" * size, raw=True)
    assert not isinstance(kept, FieldBlock)


def test_a_secret_stays_out_of_the_table() -> None:
    encoder = RememberingEncoder()
    fields = [NeverIndexedHeaderTuple(b"authorization", b"secret")]
    assert encoder.encode(fields) == encoder.encode(fields)
    assert not encoder.header_table.dynamic_entries
