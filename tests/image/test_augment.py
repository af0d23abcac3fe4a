"""Augmentation against pixel-by-pixel definitions, and ramps whose colours tell where a crop was taken."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shoestring.image.augment import DRAWS, resized_crop, shifted

LAST = np.float32(1) - np.float32(2**-24)  # the largest draw there is
SPEC = {"interpolation": "bilinear", "crop": [64, 48]}


def by_definition(image: np.ndarray, left: int, top: int, mirror: bool) -> np.ndarray:
    """`image` moved so that its pixel (top, left), counted from the corner of the padding, comes first."""
    height, width = image.shape[:2]

    def reflected(place: int, size: int) -> int:
        place = abs(place)
        return place if place < size else 2 * (size - 1) - place

    out = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            seen = width - 1 - x if mirror else x
            row, column = reflected(y + top - height // 8, height), reflected(seen + left - width // 8, width)
            out[y, x] = image[row, column]
    return out


@pytest.mark.parametrize("size", [(16, 24), (24, 16), (7, 9)])
def test_every_shift_against_its_definition(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    reach = size[0] // 8, size[1] // 8
    cases = [
        (left, top, mirror) for left in range(2 * reach[1] + 1) for top in range(2 * reach[0] + 1) for mirror in (0, 1)
    ]
    images = rng.integers(0, 256, (len(cases), *size, 3), dtype=np.uint8)
    # The middle of the draws that mean this shift; the first quarter of them mirrors, the last does not.
    places = [
        ((left + 0.5) / (2 * reach[1] + 1), (top + 0.5) / (2 * reach[0] + 1), 0.75 - mirror / 2)
        for left, top, mirror in cases
    ]
    draws = np.concatenate([np.array(places), rng.random((len(cases), DRAWS - 3))], axis=1, dtype=np.float32)
    expected = [by_definition(image, *case) for image, case in zip(images, cases, strict=True)]
    np.testing.assert_array_equal(shifted(images, draws), expected)


def test_all_shifts_are_as_likely() -> None:
    """9 x 9 places, mirrored or not, of a picture whose pixels all differ."""
    picture = np.arange(32 * 32, dtype=np.uint32).view(np.uint8).reshape(32, 32, 4)[..., :3]
    draws = np.random.default_rng(0).random((16200, DRAWS), dtype=np.float32)
    seen = Counter(out.tobytes() for out in shifted(np.repeat(picture[None], len(draws), axis=0), draws))
    assert len(seen) == 162
    # binomial(16200, 1/162): mean 100, deviation 10; five deviations
    assert 50 < min(seen.values()) <= max(seen.values()) < 150


def test_the_outermost_draws_stay_inside() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    draws = np.array([[0] * DRAWS, [LAST] * DRAWS], np.float32)
    expected = [by_definition(images[0], 0, 0, True), by_definition(images[1], 8, 8, False)]
    np.testing.assert_array_equal(shifted(images, draws), expected)


def ramps(width: int, height: int) -> Image.Image:
    """Red is the column, green the row."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=2))


def place_of(line: np.ndarray) -> tuple[float, float, bool]:
    """(start, length, mirrored) of the part that was resized to `line`, from a ramp's values inside it: resizing keeps
    a ramp straight but at its ends, so pixel i of n shows `start + (i + 1/2) * length / n - 1/2`."""
    n, inside = len(line), np.arange(3, len(line) - 3)
    slope, offset = np.polyfit(inside, line[inside].astype(float), 1)
    mirrored = slope < 0
    first = offset + slope * (n - 1) if mirrored else offset
    return first + 0.5 - abs(slope) / 2, abs(slope) * n, bool(mirrored)


draw = st.integers(0, 2**24 - 1).map(lambda k: k * 2.0**-24)


@given(
    st.sampled_from([(256, 256), (256, 192), (150, 250), (256, 90), (90, 256), (64, 48), (40, 50)]),
    st.tuples(*[draw] * DRAWS),
    st.sampled_from(["bilinear", "bicubic"]),
)
def test_a_crop_is_a_part_of_the_asked_area_and_ratio(
    size: tuple[int, int], draws: tuple[float, ...], interpolation: str
) -> None:
    width, height = size
    crop = resized_crop(ramps(*size), {**SPEC, "interpolation": interpolation}, np.array(draws, np.float32), 0.35)
    assert (crop.shape, crop.dtype) == ((64, 48, 3), np.uint8)
    left, wide, mirrored = place_of(crop[32, :, 0])
    top, high, _ = place_of(crop[:, 24, 1])
    assert mirrored == (draws[2] < 0.5)
    slack = 0.6  # rounding of colours
    assert -slack < left < left + wide < width + slack
    assert -slack < top < top + high < height + slack
    ratio = (wide / high) / (48 / 64)
    worst = 1 + 1 / min(wide, high) + 0.02  # sides are whole pixels
    assert 3 / 4 / worst < ratio < 4 / 3 * worst
    share = wide * high / (width * height)
    asked = 0.35 + 0.65 * draws[3]
    assert share < asked * worst
    if share < asked / worst:  # it did not fit: then it touches two edges
        assert abs(wide - width) < 1 + slack or abs(high - height) < 1 + slack


def test_parts_lie_anywhere() -> None:
    """The draws across and down move the part from one edge to the other."""
    for across, down in ((0, 0), (LAST, 0), (0, LAST), (0.5, 0.5)):
        crop = resized_crop(ramps(200, 200), SPEC, np.array([across, down, 0.9, 0.2, 0.5], np.float32), 0.35)
        for line, share in ((crop[32, :, 0], across), (crop[:, 24, 1], down)):
            start, length, _ = place_of(line)
            assert start == pytest.approx(share * (200 - length), abs=1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_whole_picture_is_resized_as_pillow_does(interpolation: str, mirror: bool) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8))
    draws = np.array([0.3, 0.3, 0.25 if mirror else 0.75, LAST, 0.5], np.float32)
    kind = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    expected = np.asarray(image.resize((48, 64), kind))
    got = resized_crop(image, {**SPEC, "interpolation": interpolation}, draws, 0.35)
    np.testing.assert_array_equal(got, expected[:, ::-1] if mirror else expected)


def test_all_of_the_area_can_be_asked_for() -> None:
    """`least` of 1: always the largest part that has the ratio."""
    crop = resized_crop(ramps(250, 100), SPEC, np.array([0, 0.5, 0.9, 0, LAST], np.float32), 1.0)
    assert place_of(crop[32, :, 0])[:2] == pytest.approx((0, 100), abs=1)
    assert place_of(crop[:, 24, 1])[:2] == pytest.approx((0, 100), abs=1)


def test_a_picture_of_one_pixel() -> None:
    crop = resized_crop(Image.new("RGB", (1, 1), (7, 8, 9)), SPEC, np.full(DRAWS, LAST, np.float32), 0.35)
    assert (crop == (7, 8, 9)).all()
