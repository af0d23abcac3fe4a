"""From a cloud to a network input: which points, where, how large; against the definitions, and files of any order."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.deploy.cloud_spec import chosen, cloud, order, ordered, placed
from shoestring.deploy.preprocess import at_size, check_spec, decoded, input_shape, preprocess

SPEC = {"kind": "points", "points": 64, "centre": "mean", "scale": "sphere", "up": "y"}
MAP = np.array([684_000, 5_017_000, 100.0])  # where a lidar is flown


def scan(count: int = 1000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)) * (3, 2, 1) + (5, 0, -2)


def test_mean_and_sphere() -> None:
    found = preprocess(SPEC, scan())
    assert (found.shape, found.dtype) == ((64, 3), np.float32)
    assert input_shape(SPEC) == [64, 3]
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1).max(), 1, atol=1e-6)


def test_box() -> None:
    found = preprocess({**SPEC, "centre": "box", "scale": "box"}, scan())
    np.testing.assert_allclose(found.max(axis=0), -found.min(axis=0), atol=1e-6)
    assert found.max() == 1


def test_metres_of_a_map() -> None:
    """float32 would keep half a metre of these coordinates; what is moved first keeps all."""
    found = preprocess({**SPEC, "scale": 2.5, "points": 1000}, scan() + MAP)
    expected = (scan() - scan().mean(axis=0)) / 2.5
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-6)


def test_as_it_is() -> None:
    points = scan(64)
    found = preprocess({**SPEC, "centre": None, "scale": None}, points)
    rows = {tuple(row) for row in points.astype(np.float32).tolist()}
    assert {tuple(row) for row in found.tolist()} == rows


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300), asked=st.integers(1, 300))
def test_chosen_are_points_of_the_cloud_in_no_matter_what_order(seed: int, count: int, asked: int) -> None:
    """The order of the file is without influence; of too few each comes about equally often."""
    points = scan(count, seed)
    shuffled = np.random.default_rng(seed + 1).permutation(points)
    found = chosen(ordered(points), asked)
    np.testing.assert_array_equal(found, chosen(ordered(shuffled), asked))
    rows, times = np.unique(found, axis=0, return_counts=True)
    assert len(rows) == min(count, asked)
    assert times.max() - times.min() <= 1
    assert {tuple(row) for row in rows} <= {tuple(row) for row in points}


def test_no_region_is_left_out() -> None:
    """Of a grid of 16 x 16 x 4, 256 points along the curve: four in each cube of 4 x 4 x 1, where chance leaves one in
    fifty of them empty."""
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(16), np.arange(4)), axis=-1).reshape(-1, 3) + 0.0
    found = chosen(ordered(grid), 256)
    cubes, counts = np.unique(found // (4, 4, 4), axis=0, return_counts=True)
    assert len(cubes) == 16
    assert set(counts.tolist()) == {16}


def test_draws_choose_others_as_evenly() -> None:
    points = ordered(scan())
    draws = np.random.default_rng(0).random(64)
    other = chosen(points, 64, draws)
    places = [int(np.flatnonzero((points == row).all(axis=1))[0]) for row in other]
    assert [int(place * 64 / 1000) for place in places] == pytest.approx(range(64), abs=1)
    assert not np.array_equal(other, chosen(points, 64))
    assert len(chosen(points, 64, np.full(64, np.nextafter(1, 0)))) == 64


def test_degenerate_clouds() -> None:
    """One point, equal points, points on a line; no division by zero."""
    for points in (np.ones((1, 3)), np.ones((9, 3)), np.outer(np.arange(9.0), [1, 0, 0])):
        for scale in ("sphere", "box", 3, None):
            found = preprocess({**SPEC, "scale": scale}, points)
            assert found.shape == (64, 3)
            assert np.isfinite(found).all()
    assert not preprocess(SPEC, np.ones((1, 3))).any()


def test_large_and_small_coordinates() -> None:
    for factor in (2.0**-100, 2.0**33):  # exact, so that no point changes its cell
        np.testing.assert_allclose(preprocess(SPEC, scan() * factor), preprocess(SPEC, scan()), atol=1e-5)


def test_more_columns_and_broken_points() -> None:
    points = np.hstack([scan(100), np.full((100, 2), np.nan)])
    points[7, 1] = np.inf
    np.testing.assert_array_equal(cloud(points), np.delete(points[:, :3], 7, axis=0))
    np.testing.assert_array_equal(decoded(SPEC, points), cloud(points))


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (np.zeros((4, 2)), r"cannot read float64 \[4, 2\]; give a path or a float array \[n, 3\]"),
        (np.zeros((2, 4, 3)), "cannot read"),
        (np.zeros((4, 3), int), "cannot read int64"),
        ([[1.0, 2.0, 3.0]], "cannot read a list"),
        (np.zeros((0, 3)), "give at least one"),
        (np.full((4, 3), np.nan), "give at least one"),
        (np.broadcast_to(0.0, (2**24 + 1, 3)), "16777216 at most"),
    ],
)
def test_what_is_no_cloud(given_: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        preprocess(SPEC, given_)  # type: ignore[arg-type]


def test_a_file_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scan())
    for path in (tmp_path / "a.npy", str(tmp_path / "a.npy")):
        np.testing.assert_array_equal(preprocess(SPEC, path), preprocess(SPEC, scan()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("points", value) for value in (0, -1, 2**20 + 1, 64.0, True, "64", None)),
        *(("centre", value) for value in ("median", 0, False)),
        *(("scale", value) for value in ("unit", 0, -1.0, float("nan"), float("inf"), 1e10, True, [1])),
        *(("up", value) for value in ("x", "Y", 1)),
    ],
)
def test_broken_specs(key: str, value: object) -> None:
    with pytest.raises(BadInput, match=f"preprocess: {key} "):
        check_spec({**SPEC, key: value})


def test_keys_are_exact() -> None:
    for spec in ({**SPEC, "colour": True}, {key: value for key, value in SPEC.items() if key != "up"}):
        with pytest.raises(BadInput, match="takes exactly the keys centre, kind, points, scale, up"):
            check_spec(spec)


def test_at_size() -> None:
    assert at_size(SPEC, (64, 3)) is SPEC
    assert at_size(SPEC, (16, 3)) == {**SPEC, "points": 16}
    for shape in ((16, 4), (3, 16, 16), (16,), (0, 3)):
        with pytest.raises(BadInput, match="preprocess"):
            at_size(SPEC, shape)


def test_many_points_take_bounded_time() -> None:
    points = np.random.default_rng(0).random((2_000_000, 3), np.float32)
    begun = time.process_time()
    found = preprocess({**SPEC, "scale": None, "centre": None}, points)
    assert time.process_time() - begun < 3
    # Even: each half of each axis has half of the 64.
    assert (np.abs((found > 0.5).sum(axis=0) - 32) <= 6).all()


def test_placed_does_not_change_what_it_is_given() -> None:
    points = scan()
    placed(SPEC, points)
    np.testing.assert_array_equal(points, scan())


@pytest.mark.parametrize("count", [300, 2**17 + 1000])
def test_the_order_is_that_of_what_is_ordered(count: int) -> None:
    points = scan(count)
    found = order(points)
    assert len(found) == min(count, 2**17)
    np.testing.assert_array_equal(points[found], ordered(points))
    np.testing.assert_array_equal(points[chosen(found, 50)], chosen(ordered(points), 50))
