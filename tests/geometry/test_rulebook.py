"""Cells and rule books against loops over Python sets and dictionaries."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.geometry.rulebook import coarser, neighbours, voxelise


def cloud(points: int = 150, shift: float = 0.0, seed: int = 0) -> Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy((random.uniform(-1, 1, (2, points, 3)) + shift).astype(np.float32))


@pytest.mark.parametrize("shift", [0.0, -7.3, 500.0])
def test_a_point_lies_in_its_cell(shift: float) -> None:
    xyz = cloud(shift=shift)
    cells, index = voxelise(xyz, 0.3)
    wanted = [
        (b, *(int(c) for c in np.floor(point.astype(np.float64) / 0.3)))
        for b, own in enumerate(xyz.numpy())
        for point in own
    ]
    assert [tuple(cells[i].tolist()) for i in index] == wanted
    assert [tuple(row) for row in cells.tolist()] == sorted(set(wanted))


def test_neighbours_are_those_a_dictionary_finds() -> None:
    cells, _ = voxelise(cloud(), 0.25)
    rows = {tuple(row): i for i, row in enumerate(cells.tolist())}
    rules = neighbours(cells)
    for pairs, (i, j, k) in zip(rules, itertools.product((-1, 0, 1), repeat=3), strict=True):
        wanted = {
            (rows[b, x + i, y + j, z + k], target)
            for (b, x, y, z), target in rows.items()
            if (b, x + i, y + j, z + k) in rows
        }
        assert set(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)) == wanted
        assert len(pairs.source) == len(wanted)


def test_the_edge_of_the_grid_meets_nobody_on_the_other_side() -> None:
    """Cells at both ends of an axis, and of two samples: one number a cell must not wrap around."""
    xyz = torch.tensor([[[0.0, 0, 0], [0, 0, 9], [0, 1, 0], [0, 9, 9]], [[0.0, 0, 0], [9, 9, 9], [9, 0, 0], [0, 9, 0]]])
    cells, _ = voxelise(xyz + 0.5, 1.0)
    found = [(pairs.source.tolist(), pairs.target.tolist()) for pairs in neighbours(cells)]
    apart = [(a, b) for source, target in found for a, b in zip(source, target, strict=True) if a != b]
    beside = {tuple(sorted((tuple(cells[a].tolist()), tuple(cells[b].tolist())))) for a, b in apart}
    assert beside == {((0, 0, 0, 0), (0, 0, 1, 0))}


@pytest.mark.parametrize("shift", [0.0, -3.1])
def test_coarser_cells_are_the_halves_of_coordinates(shift: float) -> None:
    cells, _ = voxelise(cloud(shift=shift), 0.2)
    above, rules = coarser(cells)
    wanted = sorted({(b, x // 2, y // 2, z // 2) for b, x, y, z in cells.tolist()})
    assert [tuple(row) for row in above.tolist()] == wanted
    seen = []
    for pairs, tap in zip(rules, itertools.product((0, 1), repeat=3), strict=True):
        for source, target in zip(pairs.source.tolist(), pairs.target.tolist(), strict=True):
            b, *place = cells[source].tolist()
            assert [b, *(c // 2 for c in place)] == above[target].tolist()
            assert tuple(c % 2 for c in place) == tap
            seen.append(source)
    assert sorted(seen) == list(range(len(cells)))


@pytest.mark.parametrize(
    ("xyz", "size", "said"),
    [
        (torch.zeros(1, 2, 3), 0.0, "size of 0"),
        (torch.full((1, 2, 3), float("nan")), 1.0, "not finite"),
        (torch.tensor([[[0.0, 0, 0], [1e6, 0, 0]]]), 1.0, "larger cells"),
    ],
)
def test_what_cannot_be_cut_is_refused(xyz: Tensor, size: float, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        voxelise(xyz, size)
