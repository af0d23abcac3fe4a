"""Which channels go, by hand."""

import numpy as np

from shoestring.compress.channels.choice import going
from shoestring.compress.channels.settings import Channels
from shoestring.graph.channels import OUT, Cell


def cell(size: int, together: int = 1) -> Cell:
    return Cell({("a", OUT): np.arange(size * together).reshape(size, together)})


def test_the_smallest_go_and_widths_are_multiples() -> None:
    scores = np.array([5.0, 1, 4, 2, 3, 9, 8, 7])
    (gone,) = going([cell(8)], [Channels(50, "uniform", 4)], [scores])
    assert np.flatnonzero(gone).tolist() == [1, 2, 3, 4]
    (gone,) = going([cell(8)], [Channels(30, "uniform", 4)], [scores])
    assert gone.sum() == 4  # 5.6 are to be left: 4 is nearer than 8
    (gone,) = going([cell(8)], [Channels(10, "uniform", 4)], [scores])
    assert not gone.any()


def test_one_threshold_takes_from_the_cell_that_has_least() -> None:
    low, high = np.full(8, 0.1) + np.arange(8) / 100, np.full(8, 10.0)
    setting = Channels(25, "global", 1)
    first, second = going([cell(8), cell(8)], [setting, setting], [low, high])
    assert (first.sum(), second.sum()) == (4, 0)


def test_channels_that_go_together_count_for_as_many() -> None:
    (gone,) = going([cell(8, together=2)], [Channels(50, "uniform", 8)], [np.arange(8.0)])
    assert gone.sum() == 4  # eight channels of sixteen
