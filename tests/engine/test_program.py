"""The bytes of a program, and what the native library makes of bytes that are none. What it makes of programs that do
not fit together is in test_program_checks.py."""

import ctypes
import struct

import numpy as np
import pytest

from shoestring.engine import native
from shoestring.engine.program import ALIGNMENT, F32, MAGIC, U8, Const, Dequantise, Pool, Program, Quantise, Tensor

needs_library = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

_pool = Pool()
PROGRAM = Program(
    (Tensor("x", (4, 6), F32), Tensor("codes", (4, 6), U8), Tensor("y", (24,), F32)),
    (
        Quantise("quantise", 0, 1, _pool.add(np.array([0.5], np.float32)), 7),
        Dequantise("dequantise", 1, 2, _pool.add(np.arange(256, dtype=np.float32))),
    ),
    (0,),
    (2, 1),
    _pool.bytes(),
)
WORDS = [F32, 2, 4, 6, U8, 2, 4, 6, F32, 1, 24, 0, 2, 1, 1, 5, 0, 1, 0, 1, 7, 2, 4, 1, 2, 1, 256]
FIRST_OP = 32 + 4 * 14


def refusal(data: bytes, room: int = 400) -> str:
    """What the library says of bytes that it must refuse."""
    message, library = ctypes.create_string_buffer(b"?" * 400), native._loaded()
    network = library.shoestring_load(data, len(data), 1, None, message, room)
    if network:
        library.shoestring_free(network)
        pytest.fail("it was not refused")
    line = message.value.decode()
    assert "\n" not in line
    return line


def patched(at: int, form: str, *values: int | bytes) -> bytes:
    """The bytes of the program with others from `at`."""
    data = bytearray(PROGRAM.to_bytes())
    struct.pack_into(form, data, at, *values)
    return bytes(data)


def test_bytes() -> None:
    """As `to_bytes` says, word by word."""
    data = PROGRAM.to_bytes()
    assert data[:8] == MAGIC
    assert struct.unpack_from("<4iq", data, 8) == (3, 2, 1, 2, len(PROGRAM.pool))
    assert np.frombuffer(data, "<i4", len(WORDS), 32).tolist() == WORDS
    head = data[32 + 4 * len(WORDS) : -len(PROGRAM.pool)]
    assert not any(head)
    assert len(head) < ALIGNMENT
    assert data.endswith(PROGRAM.pool)
    assert len(data) % ALIGNMENT == len(PROGRAM.pool) % ALIGNMENT == 0


def test_equal_constants_are_stored_once() -> None:
    pool, array = Pool(), np.arange(5, dtype=np.float32)
    assert pool.add(array) == pool.add(array.copy()) == Const(0, 5)
    assert pool.add(array[:4]) == Const(ALIGNMENT, 4)
    assert len(pool.bytes()) == 2 * ALIGNMENT


@needs_library
def test_the_program_runs() -> None:
    x = np.random.default_rng(0).uniform(-9, 200, (2, 4, 6)).astype(np.float32)
    y, codes = native.Network(PROGRAM)(x)
    np.testing.assert_array_equal(codes, np.clip(np.rint(x / np.float32(0.5)) + 7, 0, 255))
    np.testing.assert_array_equal(y, codes.reshape(2, 24))


@needs_library
def test_every_piece_of_it_is_refused() -> None:
    data = PROGRAM.to_bytes()
    for size in range(len(data)):
        assert refusal(data[:size])


@needs_library
def test_more_than_it_is_refused() -> None:
    data = PROGRAM.to_bytes()
    assert "is not where it should be" in refusal(data + b"x")
    assert "the description ends at byte 140, the pool begins at byte 256" in refusal(data + bytes(ALIGNMENT))


@needs_library
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (patched(0, "8s", b"SHOESTR2"), "do not begin with SHOESTR1"),
        (patched(8, "<i", 65537), "are not possible"),
        (patched(8, "<i", -1), "are not possible"),
        (patched(12, "<i", 65537), "are not possible"),
        (patched(12, "<i", -1), "are not possible"),
        (patched(16, "<i", 4), "are not possible"),
        (patched(20, "<i", 2**31 - 1), "are not possible"),
        (patched(8, "<i", 65536), "tensor 4: its type is 5, none of 0 (u8), 1 (f32) and 2 (i32)"),
        (patched(24, "<q", -64), "the pool of -64 bytes is not where it should be"),
        (patched(24, "<q", 1 << 62), "is not where it should be"),
        (patched(24, "<q", 100), "is not where it should be"),
        (patched(24, "<q", 0), "op 0: a constant of 1 elements at byte 0 is not within the pool of 0 bytes"),
        (patched(FIRST_OP, "<i", 0), "op 0: there is no op of kind 0"),
        (patched(FIRST_OP, "<i", 99), "op 0: there is no op of kind 99"),
        (patched(FIRST_OP, "<i", -(2**31)), "op 0: there is no op of kind -2147483648"),
        (patched(FIRST_OP + 4, "<i", 6), "op 0: it has 6 words, 5 expected"),
        (patched(FIRST_OP + 4, "<i", -1), "op 0: it has -1 words, 5 expected"),
        (patched(FIRST_OP, "<i", Dequantise.kind), "op 0: it has 5 words, 4 expected"),
    ],
)
def test_a_wrong_word_is_refused(data: bytes, message: str) -> None:
    assert message in refusal(data)


@needs_library
def test_the_message_is_cut_to_fit() -> None:
    assert refusal(b"", room=10) == "these byt"
    assert refusal(b"", room=1) == ""
    assert refusal(b"", room=0) == "?" * 400
