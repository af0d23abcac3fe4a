"""Which batches a run reads, from wherever it starts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shoestring.core.errors import BadInput
from shoestring.train.data import load, steps_per_epoch


@pytest.mark.parametrize(("size", "batch", "steps"), [(46, 8, 5), (48, 8, 6), (3, 8, 1)])
def test_a_short_last_batch_is_dropped_unless_it_is_the_only_one(
    little: SimpleNamespace, size: int, batch: int, steps: int
) -> None:
    assert steps_per_epoch(little.Noise(size), batch) == steps


@pytest.mark.parametrize("start", [0, 3, 5, 7, 11])
def test_a_run_reads_the_same_from_any_step(little: SimpleNamespace, start: int) -> None:
    """Against a list made with the data's own documented order."""
    data = little.Noise()
    orders = [np.random.default_rng((0, epoch)).permutation(46)[:40].reshape(5, 8) for epoch in range(3)]
    expected = np.concatenate(orders)[:12]
    found = list(load(data, 8, range(start, 12)))
    assert [step for step, _, _ in found] == list(range(start, 12))
    for (_, inputs, labels), chosen in zip(found, expected[start:], strict=True):
        np.testing.assert_array_equal(inputs, data.inputs[chosen])
        np.testing.assert_array_equal(labels, data.labels[chosen])
        assert (inputs.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_read_only_arrays_will_do(little: SimpleNamespace) -> None:
    class Frozen(little.Noise):
        def epoch(self, *args: int) -> object:
            for pair in super().epoch(*args):
                for array in pair:
                    array.flags.writeable = False
                yield pair

    assert len(list(load(Frozen(), 8, range(5)))) == 5


def test_an_epoch_that_ends_early_is_an_error_not_an_endless_loop(little: SimpleNamespace) -> None:
    data = little.Noise()
    data.epoch = lambda *args: iter(list(little.Noise(24).epoch(*args)))
    with pytest.raises(BadInput, match=r"epoch 1 ended 2 batches early; its length must be 46"):
        list(load(data, 8, range(10)))
