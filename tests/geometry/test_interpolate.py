"""Features for other points: against the oracle, a loop in NumPy, and what must hold without either."""

import numpy as np
import pytest
import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.geometry import reference
from shoestring.geometry.interpolate import interpolate


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_three_nearest_by_inverse_square() -> None:
    x, xyz, centres = drawn(2, 40, 5), drawn(2, 40, 3, seed=1), drawn(2, 17, 3, seed=2)
    found = interpolate(x, xyz, centres)
    for b in range(2):
        for m in range(17):
            away = ((xyz[b].double() - centres[b, m].double()) ** 2).sum(1).numpy()
            near = np.argsort(away)[:3]
            weights = 1 / (away[near] + 1e-8)
            expected = (weights[:, None] * x[b, near].double().numpy()).sum(0) / weights.sum()
            np.testing.assert_allclose(
                found[b, m].numpy(), expected, rtol=2e-5, atol=2e-6
            )  # a few roundings of float32
    torch.testing.assert_close(found, reference.interpolate(x, xyz, centres), rtol=1e-5, atol=1e-6)


def test_a_point_on_another_has_its_features() -> None:
    x, xyz = drawn(1, 30, 4), drawn(1, 30, 3, seed=1)
    torch.testing.assert_close(interpolate(x, xyz, xyz), x, rtol=1e-4, atol=1e-4)  # 1e-8 over the distances to others


@pytest.mark.parametrize("points", [1, 2])
def test_fewer_points_than_three(points: int) -> None:
    x, xyz = torch.ones(1, points, 2), drawn(1, points, 3)
    torch.testing.assert_close(interpolate(x, xyz, drawn(1, 6, 3)), torch.ones(1, 6, 2))


def test_duplicates_share_the_weight() -> None:
    x = torch.tensor([[[1.0], [2.0], [6.0], [50.0]]])
    xyz = torch.tensor([[[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [9, 9, 9]]])
    torch.testing.assert_close(interpolate(x, xyz, xyz[:, :1]), torch.tensor([[[3.0]]]))


def test_gradients_to_features_and_coordinates() -> None:
    given = [drawn(1, 9, 2), drawn(1, 9, 3, seed=1), drawn(1, 4, 3, seed=2)]
    given = [x.double().requires_grad_() for x in given]
    torch.autograd.gradcheck(interpolate, given)


def test_shapes_that_do_not_go_together_are_one_line() -> None:
    with pytest.raises(BadInput, match=r"features \[1, 4, 2\] of points \[1, 5, 3\] do not go together"):
        interpolate(torch.zeros(1, 4, 2), torch.zeros(1, 5, 3), torch.zeros(1, 2, 3))
