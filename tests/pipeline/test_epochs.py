"""Order, batches, processes. With pictures: tests/image/test_training.py."""

import threading
import time

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pipeline.epochs import Epochs


def epochs(count: int = 10, alone: bool = True, seed: int = 0) -> Epochs:
    """Inputs that tell their epoch and their index."""
    return Epochs(range(count), seed, lambda number: lambda indices: 100.0 * number + indices[:, None], alone)


@pytest.mark.parametrize("alone", [True, False])
def test_each_input_once_an_epoch_in_another_order(alone: bool) -> None:
    data = epochs(alone=alone)
    seen = []
    for number in range(3):
        batches = list(data.epoch(number, 5))
        inputs = np.concatenate([xs for xs, _ in batches])[:, 0]
        targets = np.concatenate([ys for _, ys in batches])
        np.testing.assert_array_equal(inputs, 100 * number + targets)
        assert sorted(targets) == list(range(10))
        seen.append(tuple(targets))
    assert len(set(seen)) == 3
    assert tuple(np.concatenate([ys for _, ys in epochs(seed=1).epoch(0, 5)])) not in seen


def test_processes_and_a_late_start() -> None:
    whole = [ys.tolist() for _, ys in epochs().epoch(2, 4)]
    assert [len(ys) for ys in whole] == [4, 4]
    parts = [[ys.tolist() for _, ys in epochs().epoch(2, 4, 1, rank, 2)] for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole[1:]
    assert [len(ys) for _, ys in epochs(3).epoch(0, 8)] == [3]


def test_labels() -> None:
    make = lambda number: lambda indices: np.zeros((len(indices), 1), np.float32)  # noqa: E731
    assert not Epochs([None, None], 0, make, True).labelled
    data = Epochs([None, 3], 0, make, True)
    assert data.labelled
    assert sorted(y for _, ys in data.epoch(0, 2) for y in ys) == [-1, 3]


def test_the_threads_end_with_the_epoch() -> None:
    before = threading.active_count()
    made = epochs(100, alone=False).epoch(0, 2)
    next(made)
    made.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("batch", "world", "message"),
    [(0, 1, "0 inputs at once"), (5, 2, "cannot be shared by 2"), (22, 11, "10 inputs for 11")],
)
def test_refusals(batch: int, world: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        epochs().epoch(0, batch, 0, 0, world).__next__()
