"""Windows against the structure matrix itself, built mask by mask from the definition."""

from itertools import product

import numpy as np
import pytest
import torch

from shoestring.compress.structured_conv.shape import Shape
from shoestring.compress.structured_conv.windows import (
    combined,
    coordinates,
    differences,
    projected,
    projector,
    windows,
)

CASES = [(3, (3, 3), 3, (2, 2)), (4, (3, 3), 2, (2, 2)), (6, (), 2, ()), (2, (5, 3), 2, (3, 2)), (5, (4,), 1, (1,))]


def masks(inputs: int, taps: tuple[int, ...], c: int, n: tuple[int, ...]) -> np.ndarray:
    """All shifts of a box of ones of (C - c + 1) x (N - n + 1) .., as columns [C * taps, c * n ..]: figure 2."""
    sizes, kept = (inputs, *taps), (c, *n)
    found = []
    for place in product(*map(range, kept)):
        mask = np.zeros(sizes)
        mask[tuple(slice(at, at + size - k + 1) for at, size, k in zip(place, sizes, kept, strict=True))] = 1
        found.append(mask.ravel())
    return np.array(found).T


@pytest.mark.parametrize("case", CASES)
def test_the_projection_is_that_of_the_whole_matrix(case) -> None:
    a = masks(*case)
    weight = torch.randn(4, case[0], *case[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = weight.reshape(4, -1).numpy()
    expected = flat @ a @ np.linalg.pinv(a)
    found = projected(weight, Shape(*case).projectors()).reshape(4, -1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.linalg.matrix_rank(a) == a.shape[1]


@pytest.mark.parametrize("case", CASES)
def test_coordinates_are_least_squares_and_combine_to_the_projection(case) -> None:
    shape = Shape(*case)
    weight = torch.randn(4, case[0], *case[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = coordinates(weight, shape.boxes())
    assert found.shape == (4, shape.c, *shape.n)
    torch.testing.assert_close(
        combined(found, shape.boxes()), projected(weight, shape.projectors()), rtol=0, atol=1e-12
    )


def test_the_bases_by_hand() -> None:
    assert windows(3, 2).tolist() == [[1, 0], [1, 1], [0, 1]]
    assert windows(4, 3).T.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert differences(4, 2).T.tolist() == [[3**-0.5] * 3 + [0], [-1, 0, 0, 1]]


@pytest.mark.parametrize(("size", "kept"), [(3, 2), (5, 2), (16, 8), (16, 12), (512, 256), (7, 1)])
def test_both_bases_span_what_is_projected_on(size: int, kept: int) -> None:
    p = projector(size, kept)
    torch.testing.assert_close(p @ p, p, rtol=0, atol=1e-12)
    assert p.trace().item() == pytest.approx(kept)
    for columns in (windows(size, kept), differences(size, kept)):
        torch.testing.assert_close(p @ columns, columns, rtol=0, atol=1e-9)


def test_why_channels_are_differences() -> None:
    """Windows of hundreds of channels nearly say the same; what one gains and loses does not."""
    assert torch.linalg.cond(windows(512, 256)) > 250
    assert torch.linalg.cond(differences(512, 256)) < 3
    assert torch.linalg.cond(windows(3, 2)) == pytest.approx(3**0.5)


def test_gradients_of_a_projection_lie_in_its_span() -> None:
    bases = Shape(4, (3, 3), 2, (2, 2)).projectors()
    weight = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    projected(weight, bases).square().sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(projected(weight.grad, bases), weight.grad)


def test_mixed_precision_does_not_leave_the_span() -> None:
    bases = Shape(4, (3, 3), 4, (2, 2)).projectors()
    weight = torch.randn(2, 4, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = projected(weight, bases)
    assert found.dtype == torch.float32
    torch.testing.assert_close(projected(found.double(), bases), found.double(), rtol=0, atol=1e-6)
