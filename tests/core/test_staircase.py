"""The staircase, on curves made by hand."""

import json

import numpy as np
import pytest

from shoestring.core.staircase import MULTIPLES, WIDTHS, Staircase, envelope, worth


def stairs(step: int) -> list[float]:
    """Milliseconds of a kernel that works on `step` channels at a time."""
    return [0.1 + 0.01 * step * -(-width // step) for width in WIDTHS]


@pytest.mark.parametrize("step", [1, 8, 16, 32])
def test_stairs_are_found(step: int) -> None:
    assert worth(WIDTHS, stairs(step)) == step


@pytest.mark.parametrize("step", [8, 16, 32])
def test_noise_does_not_hide_them(step: int) -> None:
    found = []
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(1, 0.005, len(WIDTHS))
        found.append(worth(WIDTHS, (np.array(stairs(step)) * noise).tolist()))
    assert np.mean([one == step for one in found]) > 0.8


@pytest.mark.parametrize("step", [2, 4])
def test_small_stairs_are_not_worth_it(step: int) -> None:
    """Half a step of few channels, on top of 32 and more, is less than what is measured."""
    assert worth(WIDTHS, stairs(step)) == 1


def test_widths_that_fall_behind() -> None:
    """A kernel with a slow remainder: what is no multiple of 4 costs a third more, however wide."""
    ms = [0.01 * width * (1 if width % 4 == 0 else 1.3) for width in WIDTHS]
    assert worth(WIDTHS, ms) == 4


def test_a_flat_curve_asks_for_nothing() -> None:
    assert worth(WIDTHS, [1.0] * len(WIDTHS)) == 1


def test_nothing_on_the_envelope() -> None:
    """The nearest decides."""
    ms = [1.0, *[2.0 + width % 16 for width in WIDTHS[1:-1]], 1.0]
    assert worth(WIDTHS, ms) == 16


def test_every_multiple_has_widths_of_its_own() -> None:
    for low, high in zip(MULTIPLES, (*MULTIPLES[1:], 1000), strict=True):
        assert any(width % low == 0 and width % high for width in WIDTHS[1:-1])
    assert list(WIDTHS) == sorted(set(WIDTHS))


def test_the_envelope_by_hand() -> None:
    assert envelope([0, 1, 2, 4], [0.0, 5.0, 1.0, 3.0]) == [0.0, 0.5, 1.0, 3.0]
    assert envelope([0, 1, 2], [2.0, 1.0, 2.0]) == [2.0, 1.0, 2.0]
    ms = np.random.default_rng(0).random(len(WIDTHS)).tolist()
    lowest = envelope(WIDTHS, ms)
    for width, low in zip(WIDTHS, lowest, strict=True):  # the definition: the least of all mixes of two
        mixes = [
            ms[i] + (ms[j] - ms[i]) * (width - WIDTHS[i]) / (WIDTHS[j] - WIDTHS[i])
            for i in range(len(WIDTHS))
            for j in range(i + 1, len(WIDTHS))
            if WIDTHS[i] <= width <= WIDTHS[j]
        ]
        assert low == pytest.approx(min(mixes))


def test_the_mean_of_all_kinds_decides() -> None:
    found = Staircase(
        "here", WIDTHS, {"1x1": tuple(stairs(16)), "depthwise": tuple(stairs(16)), "3x3": tuple(stairs(1))}
    )
    assert found.multiples == {"1x1": 16, "depthwise": 16, "3x3": 1}
    assert found.multiple == 16


def test_as_json() -> None:
    found = Staircase("here", WIDTHS, {"1x1": tuple(stairs(16)), "3x3": tuple(stairs(1))})
    data = json.loads(json.dumps(found.to_json()))
    assert data["multiples"] == {"1x1": 16, "3x3": 1}
    assert (data["device"], data["multiple"], data["widths"]) == ("here", found.multiple, list(WIDTHS))
    assert data["ms"]["1x1"] == stairs(16)
