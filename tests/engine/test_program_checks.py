"""Programs that the native library refuses: every field of every op is made wrong in turn."""

import ctypes
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.engine import native
from shoestring.engine.program import (
    ALIGNMENT,
    F32,
    U8,
    Add,
    AveragePool,
    Const,
    Conv,
    Copy,
    Dequantise,
    Linear,
    MaxPool,
    Mul,
    Op,
    Pool,
    Program,
    Quantise,
    Requantise,
    Softmax,
    Sum,
    Table,
    Tensor,
)

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

IMAGE, CODES, MADE, SUMMED, HALF, MEANS, LOGITS, BOTH, TABLED, GATED, FLOATS, SHARES, ROWS = range(13)


def whole() -> Program:
    """Every kind of op, small."""
    pool, rng = Pool(), np.random.default_rng(0)

    def floats(*values: float) -> Const:
        return pool.add(np.array(values, np.float32))

    table = pool.add(rng.permutation(256).astype(np.uint8))
    weight = pool.add(rng.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8))
    square = pool.add(rng.integers(-8, 8, (4, 4)).astype(np.int8))
    bias, four = pool.add(rng.integers(-99, 99, 4).astype(np.int32)), floats(0.01, 0.02, 0.03, 0.04)
    tensors = (
        Tensor("image", (4, 6, 6), F32),
        Tensor("codes", (4, 6, 6)),
        Tensor("made", (4, 6, 6)),
        Tensor("summed", (4, 6, 6)),
        Tensor("half", (4, 3, 3)),
        Tensor("means", (4, 1, 1)),
        Tensor("logits", (4, 1, 4)),
        Tensor("both", (2, 4, 4)),
        Tensor("tabled", (2, 4, 4)),
        Tensor("gated", (2, 4, 4)),
        Tensor("floats", (2, 4, 4), F32),
        Tensor("shares", (2, 4, 4), F32),
    )
    scales, one = floats(0.5, 0.25, 3), floats(0.02)
    conv = Conv(
        "conv", CODES, MADE, weight, 7, 2, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1),
        Requantise(bias, four, 3, 0, 250, table), Sum(CODES, 0, scales, 1, 254, table),
    )  # fmt: skip
    means = Requantise(Const(), floats(*(0.3 / n for n in range(1, 10))), 4)
    ops: tuple[Op, ...] = (
        Quantise("quantise", IMAGE, CODES, one, 7),
        conv,
        Add("add", CODES, SUMMED, Sum(MADE, 1, scales)),
        MaxPool("max", SUMMED, HALF, (3, 3), (2, 2), (1, 1), (1, 1, 0, 0)),
        AveragePool("average", HALF, MEANS, 3, 0, (3, 3), (1, 1), (0, 0, 0, 0), means),
        Linear("linear", ROWS, LOGITS, square, 5, 4, Requantise(Const(), four, 0)),
        Copy("copy a", LOGITS, BOTH, 0, 0, (1, 1, 1, 1, 4, 4), (0, 0, 0, 0, 1, 4), (0, 0, 0, 0, 4, 1)),
        Copy("copy b", LOGITS, BOTH, 15, 16, (1, 1, 1, 1, 1, 16), (0, 0, 0, 0, 0, -1), (0, 0, 0, 0, 0, 1), table),
        Table("table", BOTH, TABLED, table),
        Mul("mul", TABLED, GATED, BOTH, 1, 2, Requantise(Const(), one, 9)),
        Dequantise("dequantise", GATED, FLOATS, pool.add(rng.normal(size=256).astype(np.float32))),
        Softmax("softmax", FLOATS, SHARES, 2, 4, 4),
    )
    # The linear layer sees the four means as rows of four: repeated by a copy.
    repeat = Copy("repeat", MEANS, ROWS, 0, 0, (1, 1, 1, 1, 4, 4), (0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 4, 1))
    return Program(
        (*tensors, Tensor("rows", (4, 1, 4))), (*ops[:5], repeat, *ops[5:]), (IMAGE,), (SHARES, SUMMED), pool.bytes()
    )


WHOLE = whole()
KIND = {type(op).__name__.lower(): index for index, op in reversed(list(enumerate(WHOLE.ops)))}


def refusal(program: Program) -> str:
    """What the library says of a program that it must refuse."""
    with pytest.raises(BadInput) as caught:
        native.Network(program)
    (line,) = str(caught.value).splitlines()
    return line


def changed(kind: str, **fields: Any) -> Program:
    """The program with fields of one op changed; those of its `requantise` and `sum` by `requantise_low` and so on."""
    index = KIND[kind]
    op = WHOLE.ops[index]
    for name, value in fields.items():
        outer, _, inner = name.partition("_")
        if outer in ("requantise", "sum") and inner:
            name, value = outer, replace(getattr(op, outer), **{inner: value})
        op = replace(op, **{name: value})
    return replace(WHOLE, ops=(*WHOLE.ops[:index], op, *WHOLE.ops[index + 1 :]))


def shaped(tensor: int, *shape: int, dtype: int | None = None) -> Program:
    old = WHOLE.tensors[tensor]
    new = replace(old, shape=shape or old.shape, dtype=old.dtype if dtype is None else dtype)
    return replace(WHOLE, tensors=(*WHOLE.tensors[:tensor], new, *WHOLE.tensors[tensor + 1 :]))


def holding(values: Any, dtype: type) -> tuple[Const, bytes]:
    """A constant behind the pool, and the pool with it."""
    data = np.asarray(values, dtype)
    raw = data.tobytes()
    return Const(len(WHOLE.pool), data.size), WHOLE.pool + raw + bytes(-len(raw) % ALIGNMENT)


def with_values(kind: str, field: str, values: Any, dtype: type) -> Program:
    const, pool = holding(values, dtype)
    return replace(changed(kind, **{field: const}), pool=pool)


def part(const: Const, count: int) -> Const:
    return replace(const, count=count)


CONV_OP, ADD_OP, LINEAR_OP = (WHOLE.ops[KIND[kind]] for kind in ("conv", "add", "linear"))
assert isinstance(CONV_OP, Conv) and isinstance(ADD_OP, Add) and isinstance(LINEAR_OP, Linear)
FOUR = CONV_OP.requantise.multiplier
TABLE_CONST = CONV_OP.requantise.table
FAR = Const(1 << 30, 256)
BIG = 1 << 30


def test_the_right_program_is_accepted() -> None:
    network = native.Network(WHOLE)
    assert [step.name for step in network.steps] == [op.name for op in WHOLE.ops]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("quantise", {"input": 99}, "the input is tensor 99, there are 13"),
        ("quantise", {"input": -1}, "the input is tensor -1, there are 13"),
        ("quantise", {"output": 13}, "the output is tensor 13, there are 13"),
        ("quantise", {"input": CODES}, "the input, tensor 1, is read before all of it is written"),
        ("quantise", {"output": IMAGE}, "the output, tensor 0, has been written before"),
        ("quantise", {"scale": Const()}, "scale has 0 elements, 1 expected"),
        ("quantise", {"scale": FOUR}, "scale has 4 elements, 1 expected"),
        ("quantise", {"zero": 256}, "zero is 256, not in 0 to 255"),
        ("quantise", {"zero": -1}, "zero is -1, not in 0 to 255"),
        ("dequantise", {"table": Const()}, "table has 0 elements, 256 expected"),
        ("dequantise", {"input": FLOATS}, "is read before all of it is written"),
        ("dequantise", {"input": IMAGE}, "the input is not u8"),
        ("conv", {"input": IMAGE}, "the input is not u8"),
        ("conv", {"weight": part(CONV_OP.weight, 71)}, "weight has 71 elements, 72 expected"),
        ("conv", {"weight": Const()}, "weight has 0 elements, 72 expected"),
        ("conv", {"weight": FAR}, "is not within the pool"),
        ("conv", {"weight": Const(-64, 72)}, "is not within the pool"),
        ("conv", {"weight": Const(0, -72)}, "is not within the pool"),
        ("conv", {"x_zero": 256}, "the zero point of the input is 256"),
        ("conv", {"groups": 0}, "0 groups do not divide 4 inputs"),
        ("conv", {"groups": 3}, "3 groups do not divide 4 inputs"),
        ("conv", {"groups": -2}, "-2 groups do not divide 4 inputs"),
        ("conv", {"kernel": (0, 3)}, "a kernel is 0, not in 1 to 65536"),
        ("conv", {"kernel": (3, BIG)}, "a kernel is 1073741824"),
        ("conv", {"kernel": (3, 5)}, "the shape of the output is not (4, 6, 4)"),
        ("conv", {"kernel": (9, 3)}, "the kernel is larger than the input with its padding"),
        ("conv", {"stride": (0, 1)}, "a stride is 0"),
        ("conv", {"stride": (1, 2)}, "the shape of the output is not (4, 6, 3)"),
        ("conv", {"dilation": (1, 0)}, "a dilation is 0"),
        ("conv", {"dilation": (40000, 1)}, "a kernel with its dilation is 80001"),
        ("conv", {"pads": (-1, 1, 1, 1)}, "a pad is -1, not in 0 to 2"),
        ("conv", {"pads": (1, 1, 1, 3)}, "a pad is 3, not in 0 to 2"),
        ("conv", {"pads": (1, 1, 1, 2)}, "the shape of the output is not (4, 6, 7)"),
        ("conv", {"requantise_bias": part(CONV_OP.requantise.bias, 3)}, "bias has 3 elements, 4 expected"),
        ("conv", {"requantise_multiplier": part(FOUR, 3)}, "multiplier has 3 elements, 4 expected"),
        ("conv", {"requantise_multiplier": Const()}, "multiplier has 0 elements, 4 expected"),
        ("conv", {"requantise_zero": 300}, "zero is 300"),
        ("conv", {"requantise_low": -1}, "low is -1"),
        ("conv", {"requantise_high": 256}, "high is 256"),
        ("conv", {"requantise_low": 251}, "low is 251, above high, 250"),
        ("conv", {"requantise_table": part(TABLE_CONST, 255)}, "table has 255 elements, 256 expected"),
        ("conv", {"sum_tensor": -2}, "the tensor to add is tensor -2, there are 13"),
        ("conv", {"sum_tensor": MADE}, "the tensor to add, tensor 2, is read before all of it is written"),
        ("conv", {"sum_tensor": IMAGE}, "the tensor to add is not u8"),
        ("conv", {"sum_tensor": -1}, "the scales of no sum has no meaning here"),
        ("conv", {"sum": Sum(-1, table=TABLE_CONST)}, "the table of no sum has no meaning here"),
        ("conv", {"sum_swapped": 2}, "swapped is 2, not in 0 to 1"),
        ("conv", {"sum_scales": part(FOUR, 2)}, "scales has 2 elements, 3 expected"),
        ("conv", {"sum_low": 255}, "low is 255, above high, 254"),
        ("conv", {"sum_table": part(TABLE_CONST, 1)}, "table has 1 elements, 256 expected"),
        ("add", {"sum_tensor": -1}, "there is nothing to add"),
        ("add", {"sum_tensor": SUMMED}, "is read before all of it is written"),
        ("maxpool", {"kernel": (3, 0)}, "a kernel is 0"),
        ("maxpool", {"stride": (2, 1)}, "the shape of the output is not (4, 3, 5)"),
        ("maxpool", {"dilation": (0, 1)}, "a dilation is 0"),
        ("maxpool", {"pads": (1, 1, 0, 3)}, "a pad is 3, not in 0 to 2"),
        ("maxpool", {"input": IMAGE}, "the input is not u8"),
        ("averagepool", {"kernel": (3, 2)}, "the shape of the output is not (4, 1, 2)"),
        ("averagepool", {"stride": (0, 0)}, "a stride is 0"),
        ("averagepool", {"pads": (3, 0, 0, 0)}, "a pad is 3, not in 0 to 2"),
        ("averagepool", {"x_zero": 999}, "the zero point of the input is 999"),
        ("averagepool", {"count_padding": 2}, "count_padding is 2, not in 0 to 1"),
        ("averagepool", {"requantise_multiplier": FOUR}, "multiplier has 4 elements, 9 expected"),
        ("averagepool", {"requantise_bias": part(CONV_OP.requantise.bias, 4)}, "bias has 4 elements, 9 expected"),
        ("linear", {"input": IMAGE}, "the input is not u8"),
        ("linear", {"weight": part(LINEAR_OP.weight, 15)}, "weight has 15 elements, 16 expected"),
        ("linear", {"bits": 3}, "weights have 3 bits, not 8, 4 or 2"),
        ("linear", {"bits": 2}, "does not fit into 2 bits"),
        ("linear", {"x_zero": -5}, "the zero point of the input is -5"),
        ("linear", {"requantise_multiplier": part(FOUR, 1)}, "multiplier has 1 elements, 4 expected"),
        ("linear", {"sum": Sum(CODES, 0, part(FOUR, 3))}, "the tensor to add has another shape than the output"),
        ("table", {"table": Const()}, "table has 0 elements, 256 expected"),
        ("mul", {"other": 77}, "the other input is tensor 77"),
        ("mul", {"other": CODES}, "the other input has 144 elements, 2 expected"),
        ("mul", {"other": GATED}, "the other input, tensor 9, is read before all of it is written"),
        ("mul", {"zero_a": 256}, "zero_a is 256"),
        ("mul", {"zero_b": -1}, "zero_b is -1"),
        ("mul", {"requantise_multiplier": FOUR}, "multiplier has 4 elements, 1 expected"),
        ("mul", {"requantise_bias": part(CONV_OP.requantise.bias, 1)}, "bias has no meaning here"),
        ("softmax", {"outer": 0}, "an extent is not positive"),
        ("softmax", {"inner": -4}, "an extent is not positive"),
        ("softmax", {"length": 5}, "the input has 32 elements, 40 expected"),
        ("softmax", {"outer": BIG, "length": BIG, "inner": BIG}, "the input has 32 elements"),
        ("copy", {"extents": (1, 1, 1, 1, 4, 0)}, "the extents are larger than what is left of the output"),
        ("copy", {"extents": (1, 1, 1, 1, 4, 5)}, "the extents are larger than what is left of the output"),
        ("copy", {"extents": (BIG,) * 6}, "the extents are larger than what is left of the output"),
        ("copy", {"start": 1}, "it reaches outside of the input"),
        ("copy", {"start": -1}, "it reaches outside of the input"),
        ("copy", {"strides": (0, 0, 0, 0, 0, -1)}, "it reaches outside of the input"),
        ("copy", {"strides": (0, 0, 0, 0, 0, 2**31 - 1)}, "it reaches outside of the input"),
        ("copy", {"to": 1}, "it reaches outside of the output"),
        ("copy", {"to_strides": (0, 0, 0, 0, 4, 2)}, "it reaches outside of the output"),
        ("copy", {"to_strides": (0, 0, 0, 0, 4, 0)}, "a stride of the output is 0"),
        ("copy", {"to": 3, "to_strides": (0, 0, 0, 0, 4, -1)}, "a stride of the output is -1"),
        ("copy", {"to_strides": (0, 0, 0, 0, 3, 1)}, "an element of the output is written twice"),
        ("copy", {"extents": (1, 1, 1, 1, 3, 4)}, "is read before all of it is written"),
        ("copy", {"table": part(TABLE_CONST, 8)}, "table has 8 elements, 256 expected"),
        ("copy", {"input": IMAGE}, "the input and the output are of two types"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused(kind: str, fields: dict[str, Any], message: str) -> None:
    assert message in refusal(changed(kind, **fields))


@pytest.mark.parametrize(
    ("kind", "field", "values", "dtype", "message"),
    [
        ("quantise", "scale", [0], np.float32, "not a positive number"),
        ("quantise", "scale", [np.nan], np.float32, "not a positive number"),
        ("quantise", "scale", [np.inf], np.float32, "not a positive number"),
        ("quantise", "scale", [-1], np.float32, "not a positive number"),
        ("conv", "requantise_multiplier", [1, 1, 0, 1], np.float32, "a multiplier is 0"),
        ("conv", "requantise_multiplier", [1, 1, 1, -1], np.float32, "a multiplier is -1"),
        ("conv", "requantise_multiplier", [np.nan, 1, 1, 1], np.float32, "a multiplier is nan"),
        ("conv", "requantise_multiplier", [1, np.inf, 1, 1], np.float32, "a multiplier is inf"),
        ("conv", "requantise_multiplier", [1, 1, 1, 1e5], np.float32, "an accumulator times its multiplier may reach"),
        ("conv", "sum_scales", [1, 1, np.nan], np.float32, "a sum may reach"),
        ("conv", "sum_scales", [1e7, 1, 1], np.float32, "a sum may reach"),
        ("add", "sum_scales", [1, -1e7, 1], np.float32, "a sum may reach"),
        ("add", "sum_scales", [1, 1, np.inf], np.float32, "a sum may reach"),
        ("averagepool", "requantise_multiplier", [1] * 8 + [1e7], np.float32, "an accumulator times its multiplier"),
        ("averagepool", "requantise_multiplier", [1] * 8 + [0], np.float32, "a multiplier is 0"),
        ("linear", "requantise_multiplier", [1, 1, 1, 1e9], np.float32, "an accumulator times its multiplier"),
        ("mul", "requantise_multiplier", [1e5], np.float32, "an accumulator times its multiplier"),
    ],
)
def test_a_wrong_constant_is_refused(kind: str, field: str, values: Any, dtype: type, message: str) -> None:
    assert message in refusal(with_values(kind, field, values, dtype))


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_accumulators_wrap(value: int) -> None:
    """A channel of zeros may have any bias, as long as its codes do."""
    wide = with_values("conv", "requantise_bias", [0, 0, 0, value], np.int32)
    native.Network(wide)
    index = KIND["conv"]
    const, pool = len(wide.pool), wide.pool + np.ones(16, np.float32).tobytes()
    conv = wide.ops[index]
    assert isinstance(conv, Conv)
    conv = replace(conv, requantise=replace(conv.requantise, multiplier=Const(const, 4)))
    program = replace(wide, ops=(*wide.ops[:index], conv, *wide.ops[index + 1 :]), pool=pool)
    assert "an accumulator times its multiplier may reach" in refusal(program)


def test_averages_that_count_padding_are_bounded_by_the_whole_window() -> None:
    program = with_values("averagepool", "requantise_multiplier", [1e6] + [1] * 8, np.float32)
    native.Network(program)
    index = KIND["averagepool"]
    counting = replace(program.ops[index], count_padding=1)  # type: ignore[call-arg]
    ops = (*program.ops[:index], counting, *program.ops[index + 1 :])
    assert "an accumulator times its multiplier" in refusal(replace(program, ops=ops))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (shaped(CODES, 4, 36), "the input and the output must have 3 axes"),
        (shaped(CODES, 4, 6, 7), "op 0 (quantise): the output has 168 elements, 144 expected"),
        (shaped(CODES, dtype=F32), "the output is not u8"),
        (shaped(MADE, 3, 6, 6), "2 groups do not divide 4 inputs and 3 outputs"),
        (shaped(MADE, dtype=F32), "a table before an output of f32 has no meaning here"),
        (shaped(SUMMED, 4, 36), "the output has another shape than the input"),
        (shaped(HALF, 4, 3, 4), "the shape of the output is not (4, 3, 3)"),
        (shaped(HALF, 4, 9), "the shape of the output is not (4, 3, 3)"),
        (shaped(HALF, dtype=F32), "the output is not u8"),
        (shaped(LOGITS, 4, 4), "differ in more than the last axis"),
        (shaped(LOGITS, 4, 2, 4), "differ in more than the last axis"),
        (shaped(LOGITS, 4, 1, 5), "weight has 16 elements, 20 expected"),
        (shaped(BOTH, 2, 4, 5), "is read before all of it is written"),
        (shaped(BOTH, 2, 4, 3), "the extents are larger than what is left of the output"),
        (shaped(TABLED, 2, 17), "the output has 34 elements, 32 expected"),
        (shaped(GATED, 4, 2, 4), "the output has another shape than the input"),
        (shaped(FLOATS, dtype=U8), "the output is not f32"),
        (shaped(IMAGE, *(1,) * 7), "tensor 0: it has 7 axes"),
        (shaped(IMAGE, 0), "tensor 0: an extent is 0"),
        (shaped(IMAGE, -4, -6, 6), "tensor 0: an extent is -4"),
        (shaped(IMAGE, 1 << 16, 1 << 15), "more than 2^30 elements"),
        (shaped(IMAGE, *(BIG,) * 6), "more than 2^30 elements"),
        (shaped(IMAGE, dtype=3), "tensor 0: its type is 3"),
        (shaped(IMAGE, dtype=2), "an input, tensor 0, is i32"),
        (replace(WHOLE, inputs=()), "the numbers of tensors, ops, inputs and outputs are not possible"),
        (replace(WHOLE, outputs=()), "the numbers of tensors, ops, inputs and outputs are not possible"),
        (replace(WHOLE, tensors=()), "the numbers of tensors, ops, inputs and outputs are not possible"),
        (replace(WHOLE, inputs=(IMAGE, IMAGE)), "an input, tensor 0, has been written before"),
        (replace(WHOLE, inputs=(13,)), "an input is tensor 13, there are 13"),
        (replace(WHOLE, inputs=(-1,)), "an input is tensor -1, there are 13"),
        (replace(WHOLE, inputs=(IMAGE, MADE)), "the output, tensor 2, has been written before"),
        (replace(WHOLE, outputs=(99,)), "an output is tensor 99, there are 13"),
        (replace(WHOLE, ops=WHOLE.ops[1:]), "the input, tensor 1, is read before all of it is written"),
        (replace(WHOLE, ops=WHOLE.ops[:-1]), "an output, tensor 11, is read before all of it is written"),
        (replace(WHOLE, ops=(*WHOLE.ops, WHOLE.ops[1])), "the output, tensor 2, has been written before"),
        (replace(WHOLE, ops=(*WHOLE.ops, WHOLE.ops[7])), "the extents are larger than what is left of the output"),
        (replace(WHOLE, ops=(*WHOLE.ops, replace(WHOLE.ops[8], output=TABLED))), "larger than what is left"),
    ],
)
def test_what_does_not_fit_together_is_refused(program: Program, message: str) -> None:
    assert message in refusal(program)


def test_copies_that_fill_no_whole_output_are_refused() -> None:
    ops, spare = WHOLE.ops, replace(WHOLE.ops[7], output=13)  # nobody reads it
    tensors = (*WHOLE.tensors, Tensor("spare", (17,)))
    assert "tensor 13 is filled to 16 of its 17 elements" in refusal(replace(WHOLE, tensors=tensors, ops=(*ops, spare)))
    # As many elements as there are, but one of them twice and another never.
    shifted = replace(ops[8], to=15)  # type: ignore[call-arg]
    assert "op 8 (copy): an element of the output is written twice" in refusal(
        replace(WHOLE, ops=(*ops[:8], shifted, *ops[9:]))
    )


def test_a_dilated_pool_may_not_step_over_its_input() -> None:
    pool = MaxPool("max", 0, 1, (2, 1), (1, 1), (4, 1), (2, 0, 2, 0))
    program = Program((Tensor("x", (1, 3, 3)), Tensor("y", (1, 3, 3))), (pool,), (0,), (1,), b"")
    assert "op 0 (max pool): a dilation is larger than the input, with padding" in refusal(program)
    native.Network(replace(program, ops=(replace(pool, dilation=(3, 1), pads=(2, 0, 1, 0)),)))


@given(st.data())
def test_no_change_of_a_word_does_harm(data: st.DataObject) -> None:
    """Some word is another: the program is refused, or it runs."""
    raw = bytearray(WHOLE.to_bytes())
    at = 4 * data.draw(st.integers(2, (len(raw) - len(WHOLE.pool)) // 4 - 1))
    value = data.draw(st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 300))
    raw[at : at + 4] = struct.pack("<i", value)
    library, message = native._loaded(), ctypes.create_string_buffer(400)
    network = library.shoestring_load(bytes(raw), len(raw), 1, None, message, 400)
    if not network:
        assert message.value
        return
    x, outputs = np.zeros(144, np.float32), [np.zeros(32, np.float32), np.zeros(144, np.uint8)]
    library.shoestring_run(network, native._arrays([x]), 1, native._arrays(outputs), 2, 1, None, message, 400)
    library.shoestring_free(network)


def test_the_message_names_the_node_the_op_and_the_field() -> None:
    line = "engine: conv: op 1 (conv): 3 groups do not divide 4 inputs and 4 outputs"
    assert refusal(changed("conv", groups=3)) == line
