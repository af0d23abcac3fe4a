"""Cells of a grid: against a dictionary in NumPy."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.geometry import reference
from shoestring.geometry.voxels import voxels

Cloud = Callable[[str, int, int], np.ndarray]


@given(
    kind=st.sampled_from(("normal", "lattice", "same", "line", "copies", "tiny")),
    points=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(0.03, 5),
)
@settings(max_examples=60, deadline=None)
def test_cells_are_those_of_a_dictionary(cloud: Cloud, kind: str, points: int, seed: int, size: float) -> None:
    xyz = cloud(kind, points, seed)
    members = defaultdict(list)
    for i, key in enumerate(np.floor(xyz / np.float32(size)).astype(np.int64).tolist()):
        members[tuple(key)].append(i)
    found = voxels(torch.from_numpy(xyz), size)
    assert found.keys.tolist() == sorted(map(list, members))
    for v, key in enumerate(found.keys.tolist()):
        own = members[tuple(key)]
        assert found.counts[v] == len(own)
        assert torch.nonzero(found.inverse == v)[:, 0].tolist() == own
        mean = xyz[own].astype(np.float64).mean(0)
        np.testing.assert_allclose(found.centres[v].numpy(), mean, rtol=1e-4, atol=1e-5)  # sums of float32
    oracle = reference.voxels(torch.from_numpy(xyz), float(np.float32(size)))
    assert all(map(torch.equal, (found.keys, found.counts, found.inverse), oracle[:3]))


def test_means_of_features_with_gradients() -> None:
    xyz = torch.tensor([[0.1, 0, 0], [5, 0, 0], [0.2, 0, 0]], dtype=torch.float64)
    found = voxels(xyz, 1.0)
    x = torch.tensor([[1.0, 2], [3, 4], [5, 6]], dtype=torch.float64, requires_grad=True)
    assert found.mean(x).tolist() == [[3, 4], [3, 4]]
    torch.autograd.gradcheck(found.mean, x)
    with pytest.raises(BadInput, match=r"\[2, 2\] is not of these points; give \[3, C\]"):
        found.mean(x[:2])


def test_coordinates_get_gradients_from_the_centres() -> None:
    xyz = torch.rand(5, 3, requires_grad=True)
    voxels(xyz, 10.0).centres.sum().backward()
    torch.testing.assert_close(xyz.grad, torch.full((5, 3), 0.2))


def test_far_from_the_origin_and_below_it() -> None:
    xyz = torch.tensor([[-1e6, 3.0, 0.5], [-1e6 + 0.5, 3.2, 0.9], [1e6, -0.1, 0.0]], dtype=torch.float64)
    assert voxels(xyz, 0.5).keys.tolist() == [[-2000000, 6, 1], [-1999999, 6, 1], [2000000, -1, 0]]


def test_no_points_no_cells() -> None:
    found = voxels(torch.zeros(0, 3), 1.0)
    assert [found.keys.shape, found.counts.shape, found.centres.shape] == [(0, 3), (0,), (0, 3)]


@pytest.mark.parametrize(
    ("xyz", "size", "message"),
    [
        (torch.zeros(1, 4, 3), 1.0, r"points are \[1, 4, 3\]; give \[N, 3\]"),
        (torch.zeros(4, 3), 0.0, "a size of 0.0 does not work; give one above 0"),
        (torch.zeros(4, 3), float("nan"), "a size of nan does not work"),
        (torch.full((4, 3), float("nan")), 1.0, "coordinates must be finite"),
        (torch.tensor([[0.0, 0, 0], [1e30, 1, 1]]), 1e-3, "too many cells"),
        (torch.tensor([[0.0, 0, 0], [1e30, 1, 1]]), 1e-30, "too many cells"),
        (torch.eye(3) * 1e8, 1.0, "too many cells"),
        (torch.eye(3), 1e-60, "too many cells"),
    ],
)
def test_what_makes_no_grid_is_one_line(xyz: torch.Tensor, size: float, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        voxels(xyz, size)
