"""Statistics of batch norms from a few batches, against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from shoestring.core.errors import BadInput
from shoestring.graph.settle import batches, norms_of, settle


def test_the_norms_that_are_named_get_the_mean_of_the_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3))
    first, last = norms_of(model)
    assert (first, last) == (model[0], model[2])
    first.momentum = 0.3
    given = [torch.randn(8, 3) + 2, torch.randn(8, 3)]
    settle(model, given, [first])
    wanted = np.mean([x.numpy().mean(0) for x in given], axis=0)
    np.testing.assert_allclose(first.running_mean.numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(
        first.running_var.numpy(), np.mean([x.numpy().var(0, ddof=1) for x in given], axis=0), rtol=1e-5
    )
    assert torch.equal(last.running_mean, torch.zeros(3))
    assert (first.momentum, first.training, model.training) == (0.3, False, False)


def test_one_input_is_too_few_for_a_norm_behind_pooling() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with pytest.raises(BadInput, match=r"^calibration: .* more than 1 value per channel .*; give 2 inputs or more$"):
        settle(model, [torch.randn(1, 3)], norms_of(model))


def test_batches_are_alike_in_size() -> None:
    inputs = [np.full((1, 2), index) for index in range(65)]
    parts = batches(inputs)
    assert [len(part) for part in parts] == [32, 33]
    assert np.array_equal(np.concatenate(parts), np.concatenate(inputs))
    assert [len(part) for part in batches(inputs[:5], 2)] == [1, 2, 2]
    assert [len(part) for part in batches(inputs[:4], 2)] == [2, 2]
    assert batches([]) == []
