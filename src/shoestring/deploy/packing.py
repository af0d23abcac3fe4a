"""Codes of fewer than 8 bits, several in a byte: what a `.shoe` and MatMulNBits store."""

import math

import numpy as np
from numpy.typing import NDArray

# Bits of a code: bits it is stored in. Only widths that divide a byte: a `.shoe` is deflated, which finds what codes
# have in common only where they keep their place in a byte. Deflated, normal weights of LSQ take (share of int8)
# 3 bits: 0.31 stored in 4, 0.34-0.36 packed tightly; 5 bits: 0.48-0.62 left as bytes, 0.59-0.62 packed tightly.
STORED = {2: 2, 3: 4, 4: 4}


def pack(codes: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """`codes`, in C order, at `bits` bits (2 or 4) above the lowest, the first in the lowest bits of a byte; the last
    byte is filled with zeros. [ceil(codes * bits / 8)]. Raises ValueError for codes that do not fit."""
    half, each = 2 ** (bits - 1), 8 // bits
    if codes.size and not -half <= codes.min() <= codes.max() < half:
        raise ValueError(f"codes {codes.min()}..{codes.max()} go beyond {bits} bits, which hold {-half}..{half - 1}")
    rows = np.zeros((packed_size(codes.size, bits), each), np.uint8)
    rows.reshape(-1)[: codes.size] = codes.reshape(-1) + np.int8(half)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(rows << _shifts(bits), axis=1)
    return packed


def unpack(packed: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """The codes of `shape` that `pack` packed. Raises ValueError, before anything is allocated, when `shape` needs
    another number of bytes."""
    count = math.prod(shape)
    if packed.shape != (packed_size(count, bits),):
        raise ValueError(f"{list(packed.shape)} bytes are not {list(shape)} codes of {bits} bits")
    numbers = packed[:, None] >> _shifts(bits)
    numbers &= np.uint8(2**bits - 1)
    codes = numbers.view(np.int8)  # in place from here: the file says how much there is
    codes -= np.int8(2 ** (bits - 1))
    return codes.reshape(-1)[:count].reshape(shape)


def shift_of(codes: NDArray[np.int8]) -> int:
    """How many bits all `codes` were moved up by (`deploy.learned`): those that none of them uses at the lower end.
    Codes of 2 to 4 bits lie in the upper bits of a byte, so that the bias, whose step is theirs, is rounded less."""
    used = int(np.bitwise_or.reduce(codes.ravel().view(np.uint8), initial=0))
    return (used & -used).bit_length() - 1 if used else 0


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` codes."""
    return -(-count * bits // 8)


def _shifts(bits: int) -> NDArray[np.uint8]:
    return np.arange(0, 8, bits, dtype=np.uint8)
