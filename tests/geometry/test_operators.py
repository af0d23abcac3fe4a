"""The operators against loops in NumPy that share no code with them, as nodes of a graph, and their gradients."""

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.core.errors import BadInput
from shoestring.geometry import operators as op


def cloud(points: int, seed: int = 0, batch: int = 2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((batch, points, 3)).astype(np.float32))


def squared(centre: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    d = (centre - xyz).astype(np.float32)
    return (d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1]) + d[:, 2] * d[:, 2]


def test_farthest_points_are_those_of_the_textbook_loop() -> None:
    xyz = cloud(60)
    found = op.farthest(xyz, 25).numpy()
    for own, points in zip(found, xyz.numpy(), strict=True):
        picked = [0]
        while len(picked) < 25:
            near = np.min([squared(points[i], points) for i in picked], axis=0)
            picked.append(int(np.argmax(near)))
        assert own.tolist() == picked


def test_nearest_points_come_in_order_and_ties_by_index() -> None:
    xyz = torch.round(cloud(50) * 2)  # a lattice: many equal distances
    centres = xyz[:, :10]
    found = op.nearest(centres, xyz, 7).numpy()
    for b in range(2):
        for m in range(10):
            away = squared(centres[b, m].numpy(), xyz[b].numpy())
            assert found[b, m].tolist() == sorted(range(50), key=lambda i: (away[i], i))[:7]


def test_what_is_outside_the_ball_is_replaced_by_the_nearest() -> None:
    xyz = cloud(40, batch=1)
    found = op.within(xyz[:, :5], xyz, 0.8, 12).numpy()[0]
    for m in range(5):
        away = squared(xyz[0, m].numpy(), xyz[0].numpy())
        order = sorted(range(40), key=lambda i: (away[i], i))[:12]
        assert found[m].tolist() == [i if away[i] <= np.float32(0.8) ** 2 else order[0] for i in order]


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3)])
def test_rows_are_taken_and_gradients_go_back_to_them(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 9, shape)
    rows = op.take(x, index)
    assert torch.equal(rows[1, 2], x[1, index[1, 2]])
    torch.autograd.gradcheck(lambda given: op.take(given, index), x)


def test_in_a_graph_each_is_one_node() -> None:
    class Grouped(nn.Module):
        def forward(self, xyz: Tensor) -> Tensor:
            centres = op.take(xyz, op.farthest(xyz, 8))
            return op.take(xyz, op.nearest(centres, xyz, 4))

    graph = fx.symbolic_trace(Grouped())
    assert [node.op for node in graph.graph.nodes] == ["placeholder", *["call_function"] * 4, "output"]
    assert graph(cloud(20)).shape == (2, 8, 4, 3)


@pytest.mark.parametrize("count", [0, 6])
def test_more_points_than_there_are_is_one_line(count: int) -> None:
    with pytest.raises(BadInput, match=f"{count} of 5 points cannot be had; ask for 1 to 5"):
        op.farthest(cloud(5), count)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_coordinates_that_are_no_numbers_are_one_line(bad: float) -> None:
    xyz, broken = cloud(5), cloud(5)
    broken[1, 3, 2] = bad
    message = "coordinates must be finite; leave out points with NaN or infinity"
    for call in (
        lambda: op.farthest(broken, 2),
        lambda: op.nearest(xyz, broken, 2),
        lambda: op.nearest(broken, xyz, 2),
        lambda: op.within(broken, xyz, 1.0, 2),
    ):
        with pytest.raises(BadInput, match=message):
            call()


def test_what_are_no_points_is_one_line() -> None:
    with pytest.raises(BadInput, match=r"points are torch.float32 \[5, 3\]; give floats \[B, N, 3\]"):
        op.farthest(torch.zeros(5, 3), 2)
    with pytest.raises(BadInput, match=r"points are torch\.int64"):
        op.farthest(torch.zeros(1, 5, 3, dtype=torch.int64), 2)
    with pytest.raises(BadInput, match="of one batch size, type and device"):
        op.nearest(cloud(5, batch=1), cloud(5), 2)
    for radius in (-1.0, float("nan")):
        with pytest.raises(BadInput, match=r"radius of .* does not work; give 0 or more"):
            op.within(cloud(5), cloud(5), radius, 2)


def test_a_radius_beyond_all_numbers_takes_everything() -> None:
    xyz = cloud(20)
    for radius in (1e300, float("inf")):
        assert torch.equal(op.within(xyz, xyz, radius, 6), op.nearest(xyz, xyz, 6))


def test_points_that_want_gradients_are_taken() -> None:
    xyz = cloud(20).requires_grad_()
    assert torch.equal(op.farthest(xyz, 6), op.farthest(xyz.detach(), 6))
    op.take(xyz, op.nearest(xyz, xyz, 3)).sum().backward()
    assert xyz.grad is not None
