"""The learned weight of a layer as codes and scales."""

import numpy as np
import pytest

from shoestring.core.grid import Grid


def test_values_are_codes_times_the_scale_of_their_output() -> None:
    rng = np.random.default_rng(0)
    for shape in ((3, 2, 3, 3), (4, 5)):
        codes, scales = rng.integers(-8, 8, shape).astype(np.int8), rng.random(shape[0], np.float32)
        values = Grid(codes, scales, 4).values
        assert values.dtype == np.float32 and values.shape == shape
        for index in np.ndindex(shape):
            assert values[index] == np.float32(codes[index]) * scales[index[0]]


@pytest.mark.parametrize(("codes", "scales"), [((3, 4), (4,)), ((3, 4), ()), ((3, 4), (3, 1)), ((3,), (3,))])
def test_scales_belong_to_outputs(codes: tuple[int, ...], scales: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="grid: codes"):
        Grid(np.zeros(codes, np.int8), np.ones(scales, np.float32), 8)
