"""Steps of points: every instruction set against the reference, bit for bit; and programs of them that are refused."""

import ctypes
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.engine import native
from shoestring.engine.program import (
    F32,
    I32,
    NONE,
    Const,
    Copy,
    Farthest,
    Highest,
    Nearest,
    Pool,
    Program,
    Relative,
    Take,
    Tensor,
)

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

Check = Callable[..., list[np.ndarray]]
POINTS, KEPT, NEAR = 50, 12, 5
XYZ, FEW, CENTRES, INDEX, OFFSETS, CODES, ROWS, TOOK, TOP, OTHERS = range(10)


def whole(points: int = POINTS, kept: int = KEPT, near: int = NEAR, radius: float | None = 0.8) -> Program:
    """Every kind of op of points."""
    pool = Pool()

    def floats(*values: float) -> Const:
        return pool.add(np.array(values, np.float32))

    tensors = (
        Tensor("xyz", (points, 3), F32),
        Tensor("few", (kept,), I32),
        Tensor("centres", (kept, 3), F32),
        Tensor("index", (kept, near), I32),
        Tensor("offsets", (kept * near, 3), F32),
        Tensor("codes", (kept * near, 3)),
        Tensor("rows", (points, 70)),
        Tensor("took", (kept * near, 70)),
        Tensor("top", (kept, 70)),
        Tensor("others", (kept * near, 3), F32),
    )
    ops = (
        Farthest("farthest", XYZ, FEW),
        Take("kept", XYZ, CENTRES, FEW),
        Nearest("nearest", CENTRES, INDEX, XYZ, Const() if radius is None else floats(radius)),
        Relative("offsets", XYZ, OFFSETS, INDEX, CENTRES),
        Relative("relative", XYZ, CODES, INDEX, CENTRES, floats(1.7, -0.3), floats(0.01), 99),
        Take("take", ROWS, TOOK, INDEX),
        Highest("highest", TOOK, TOP, kept, near, 70),
        Relative("others", XYZ, OTHERS, INDEX, NONE, floats(0.1)),
    )
    outputs = INDEX, OFFSETS, CODES, TOOK, TOP, OTHERS, FEW, CENTRES
    return Program(tensors, ops, (XYZ, ROWS), outputs, pool.bytes())


WHOLE = whole()


@pytest.mark.parametrize("radius", [None, 0.3, 2.0])
@pytest.mark.parametrize("sizes", [(50, 12, 5), (700, 130, 16), (1, 1, 1), (9, 9, 9), (33, 2, 1)])
def test_every_step(check: Check, sizes: tuple[int, int, int], radius: float | None) -> None:
    rng = np.random.default_rng(0)
    for images in (1, 3):
        xyz = rng.normal(size=(images, sizes[0], 3)).astype(np.float32)
        check(whole(*sizes, radius), xyz, rng.integers(0, 256, (images, sizes[0], 70), dtype=np.uint8))


def test_points_that_coincide(check: Check) -> None:
    """Of equal distances the lower index is first."""
    xyz = np.random.default_rng(0).integers(0, 3, (2, POINTS, 3)).astype(np.float32)
    check(WHOLE, xyz, np.zeros((2, POINTS, 70), np.uint8))


@pytest.mark.parametrize(("outer", "length", "inner"), [(1, 7, 300), (9, 1, 4), (40, 16, 64), (3, 24, 130), (5, 3, 1)])
def test_highest(check: Check, outer: int, length: int, inner: int) -> None:
    tensors = Tensor("x", (outer * length, inner)), Tensor("y", (outer, inner))
    program = Program(tensors, (Highest("h", 0, 1, outer, length, inner),), (0,), (1,), b"")
    check(program, np.random.default_rng(0).integers(0, 256, (2, outer * length, inner), dtype=np.uint8))


def test_points_that_are_no_numbers_do_no_harm() -> None:
    xyz = np.full((1, POINTS, 3), np.nan, np.float32)
    xyz[0, ::3] = np.inf
    for isa in native.isas():
        index = native.Network(WHOLE, isa=isa)(xyz, np.zeros((1, POINTS, 70), np.uint8))[0]
        assert 0 <= index.min() <= index.max() < POINTS


def refusal(program: Program) -> str:
    with pytest.raises(BadInput) as caught:
        native.Network(program)
    (line,) = str(caught.value).splitlines()
    return line


def changed(number: int, **fields: Any) -> Program:
    return replace(WHOLE, ops=(*WHOLE.ops[:number], replace(WHOLE.ops[number], **fields), *WHOLE.ops[number + 1 :]))


def shaped(tensor: int, *shape: int, dtype: int) -> Program:
    tensors = list(WHOLE.tensors)
    tensors[tensor] = replace(tensors[tensor], shape=shape, dtype=dtype)
    return replace(WHOLE, tensors=tuple(tensors))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (changed(0, input=ROWS), "farthest: op 0 (farthest): the input is not f32"),
        (changed(0, output=CODES), "the output is not i32"),
        (shaped(XYZ, 3, POINTS, dtype=F32), "the shape of the input is not (3, 3)"),
        (shaped(XYZ, 3 * POINTS, dtype=F32), "the shape of the input is not (150, 3)"),
        (shaped(FEW, POINTS + 1, dtype=I32), "the count is 51, not in 1 to 50"),
        (shaped(FEW, KEPT, 1, dtype=I32), "the shape of the output is not (12)"),
        (changed(1, index=99), "the index is tensor 99, there are 10"),
        (changed(1, index=XYZ), "the index is not i32"),
        (changed(1, index=INDEX), "is read before all of it is written"),
        (changed(1, input=FEW), "indices are not taken"),
        (shaped(CENTRES, KEPT, 4, dtype=F32), "the shape of the output is not (12, 3)"),
        (shaped(CENTRES, KEPT - 1, 3, dtype=F32), "the shape of the output is not (12, 3)"),
        (changed(5, input=TOP), "is read before all of it is written"),
        (changed(2, other=-1), "other is tensor -1"),
        (changed(2, radius=Const(0, 2)), "the radius has 2 elements"),
        (shaped(INDEX, KEPT, POINTS + 1, dtype=I32), "the count is 51, not in 1 to 50"),
        (shaped(INDEX, KEPT * NEAR, dtype=I32), "the shape of the output is not (12, 60)"),
        (changed(3, input=CENTRES), "the index is of 50 rows, the input has 12"),
        (changed(3, other=XYZ), "the shape of other is not (12, 3)"),
        (changed(3, index=FEW), "the shape of the index is not (12, 12)"),
        (changed(3, scale=Const(0, 1)), "the scale of an output of f32 has no meaning here"),
        (changed(4, scale=Const()), "scale has 0 elements, 1 expected"),
        (changed(4, zero=256), "zero is 256"),
        (changed(4, factors=Const(1 << 30, 1)), "is not within the pool"),
        (changed(6, length=NEAR + 1), "the input has 4200 elements, 5040 expected"),
        (changed(6, inner=0), "an extent is not positive"),
        (changed(6, outer=1 << 30, length=1 << 30, inner=1 << 30), "the input has 4200 elements"),
        (shaped(TOP, KEPT, 71, dtype=0), "the output has 852 elements, 840 expected"),
        (replace(WHOLE, inputs=(XYZ, ROWS, FEW)), "an input, tensor 1, is i32"),
    ],
)
def test_what_is_refused(program: Program, message: str) -> None:
    assert message in refusal(program)


def test_indices_are_not_copied(check: Check) -> None:
    ones = (1,) * 5
    copy = Copy("copy", FEW, 10, 0, 0, (*ones, KEPT), (*ones, 1), (*ones, 1))
    program = replace(WHOLE, tensors=(*WHOLE.tensors, Tensor("again", (KEPT,), I32)), ops=(*WHOLE.ops, copy))
    assert "indices are not copied" in refusal(program)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_wrong_constant_is_refused(value: float) -> None:
    pool = WHOLE.pool + np.full(16, value, np.float32).tobytes()
    wrong = Const(len(WHOLE.pool), 1)
    assert "the radius is" in refusal(replace(changed(2, radius=wrong), pool=pool))
    assert "the scale is" in refusal(replace(changed(4, scale=wrong), pool=pool))
    if not np.isfinite(value):
        assert "a factor is" in refusal(replace(changed(4, factors=wrong), pool=pool))


@given(st.data())
def test_no_change_of_a_word_does_harm(data: st.DataObject) -> None:
    """Some word is another: the program is refused, or it runs."""
    raw = bytearray(WHOLE.to_bytes())
    at = 4 * data.draw(st.integers(2, (len(raw) - len(WHOLE.pool)) // 4 - 1))
    raw[at : at + 4] = struct.pack("<i", data.draw(st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 300)))
    library, message = native._loaded(), ctypes.create_string_buffer(400)
    network = library.shoestring_load(bytes(raw), len(raw), 1, None, message, 400)
    if not network:
        assert message.value
        return
    given_ = [np.zeros((POINTS, 3), np.float32), np.zeros((POINTS, 70), np.uint8)]
    made = [np.zeros(WHOLE.tensors[index].shape, (np.uint8, np.float32, np.int32)[WHOLE.tensors[index].dtype])
            for index in WHOLE.outputs]  # fmt: skip
    arrays = native._arrays(given_), 2, native._arrays(made), len(made)
    library.shoestring_run(network, *arrays, 1, None, message, 400)
    library.shoestring_free(network)
