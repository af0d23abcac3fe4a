"""Windows: the linear algebra of structured kernels, one axis at a time and in float64.

A structured kernel is a sum of boxes of ones, one for every shift that the kernel has room for (Bhalgat et al., arXiv
2008.02454). The boxes of a kernel are products of windows along its axes, so the matrix whose columns are
all boxes is a Kronecker product that nobody has to build: every map below is applied axis after axis.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def windows(size: int, kept: int) -> Tensor:
    """[size, kept]: column j is one on the rows j .. j + size - kept. Its condition number is 1.7 from 3 to 2; with
    hundreds of rows it is more than half their number."""
    rows, shifts = torch.arange(size)[:, None], torch.arange(kept)
    return ((rows >= shifts) & (rows <= shifts + size - kept)).double()


@lru_cache(maxsize=64)
def differences(size: int, kept: int) -> Tensor:
    """[size, kept]: other columns for the span of `windows`, in which one window is summed and the others are what is
    gained and lost from one to the next: a subtraction each. The sum is divided by the root of its length, so that it
    is about as large as a difference."""
    wide = size - kept + 1
    basis = torch.zeros(size, kept, dtype=torch.float64)
    basis[:wide, 0] = wide**-0.5
    later = torch.arange(1, kept)
    basis[later + wide - 1, later] = 1.0
    basis[later - 1, later] = -1.0
    return basis


@lru_cache(maxsize=64)
def projector(size: int, kept: int) -> Tensor:
    """[size, size]: the orthogonal projection onto the span of `windows`. Training applies it at every step."""
    basis = torch.linalg.qr(differences(size, kept)).Q
    return basis @ basis.mT


def coordinates(weight: Tensor, bases: Sequence[Tensor | None]) -> Tensor:
    """The least-squares coordinates of `weight` (float64), axis i in the columns of `bases[i]`; None leaves an axis as
    it is. One after the other: the pseudoinverse of a Kronecker product is that of the pseudoinverses."""
    for axis, basis in enumerate(bases):
        if basis is not None:
            moved = weight.movedim(axis, 0)
            found = torch.linalg.lstsq(basis, moved.reshape(len(moved), -1)).solution
            weight = found.reshape(-1, *moved.shape[1:]).movedim(0, axis)
    return weight


def combined(coordinates: Tensor, bases: Sequence[Tensor | None]) -> Tensor:
    """The weight with these coordinates."""
    for axis, basis in enumerate(bases):
        if basis is not None:
            coordinates = torch.tensordot(coordinates, basis.to(coordinates), ([axis], [1])).movedim(-1, axis)
    return coordinates


def projected(weight: Tensor, projectors: Sequence[Tensor | None]) -> Tensor:
    """The nearest structured weight, in the weight's own type, with gradients; None leaves an axis as it is."""
    with torch.autocast(weight.device.type, enabled=False):  # in bfloat16 it would leave the span again
        for axis, along in enumerate(projectors):
            if along is not None:
                weight = torch.tensordot(weight, along.to(weight), ([axis], [0])).movedim(-1, axis)
    return weight
