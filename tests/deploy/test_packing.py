"""Packed codes against Python's own integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.deploy.packing import STORED, pack, packed_size, unpack

coded = st.sampled_from([2, 4]).flatmap(
    lambda bits: st.tuples(st.just(bits), st.lists(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), max_size=40))
)


@given(coded)
def test_a_packed_row_is_one_long_number(drawn: tuple[int, list[int]]) -> None:
    bits, codes = drawn
    packed = pack(np.array(codes, np.int8), bits)
    number = sum((code + 2 ** (bits - 1)) << (bits * index) for index, code in enumerate(codes))
    assert packed.dtype == np.uint8 and len(packed) == packed_size(len(codes), bits) == -(-len(codes) * bits // 8)
    assert int.from_bytes(packed.tobytes(), "little") == number
    got = unpack(packed, bits, (len(codes),))
    assert got.dtype == np.int8 and got.tolist() == codes


def test_shapes_and_layouts() -> None:
    codes = np.random.default_rng(0).integers(-2, 2, (3, 5, 7)).astype(np.int8)
    assert np.array_equal(unpack(pack(codes, 2), 2, codes.shape), codes)
    assert np.array_equal(pack(np.asfortranarray(codes), 2), pack(codes, 2))
    assert len(pack(codes, 2)) == 27


@pytest.mark.parametrize(("code", "bits"), [(2, 2), (-3, 2), (8, 4), (-9, 4), (127, 4)])
def test_codes_beyond_their_bits_are_refused(code: int, bits: int) -> None:
    with pytest.raises(ValueError, match=f"go beyond {bits} bits"):
        pack(np.array([0, code], np.int8), bits)


@pytest.mark.parametrize("shape", [(8,), (10,), (3, 4), (2**40, 2**40), (0,)])
def test_other_sizes_are_refused_before_anything_is_allocated(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="codes of 4 bits"):
        unpack(np.zeros(5 if shape != (10,) else 6, np.uint8), 4, shape)


def test_every_low_width_is_stored_in_no_fewer_bits() -> None:
    assert all(stored >= bits and 8 % stored == 0 for bits, stored in STORED.items())
