"""The oracle itself, where it could be wrong: ties, duplicates, one point; NumPy decides."""

import numpy as np
import torch

from shoestring.geometry import reference


def test_distances_are_summed_in_order_without_fused_steps() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((1, n, 3)).astype(np.float32) for n in (30, 40))
    d = a[0][:, None] - b[0][None]
    expected = (d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1]) + d[..., 2] * d[..., 2]
    found = reference.distances(torch.from_numpy(a), torch.from_numpy(b))
    assert np.array_equal(found[0].numpy(), expected)


def test_of_points_equally_far_the_first_is_sampled() -> None:
    square = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]])
    assert reference.farthest(square, 3).tolist() == [[0, 1, 2]]


def test_duplicates_are_sampled_when_nothing_else_is_left() -> None:
    same = torch.zeros(1, 4, 3)
    assert reference.farthest(same, 3).tolist() == [[0, 0, 0]]
    assert reference.nearest(same[:, :1], same, 3).tolist() == [[[0, 1, 2]]]


def test_one_point_is_its_own_neighbour_at_any_radius() -> None:
    one = torch.ones(1, 1, 3)
    assert reference.within(one, one, 1e-9, 1).tolist() == [[[0]]]
