"""Sampling and neighbours: every instruction set against sorting in NumPy."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.engine import native, points

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")
ISAS = native.isas() if native.available() else ()


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = a - b
    return (d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1]) + d[..., 2] * d[..., 2]


def farthest(xyz: np.ndarray, count: int) -> np.ndarray:
    picked, near = [0], squared(xyz, xyz[0])
    while len(picked) < count:
        picked.append(int(near.argmax()))
        near = np.minimum(near, squared(xyz, xyz[picked[-1]]))
    return np.array(picked)


def nearest(centres: np.ndarray, xyz: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(squared(centres[:, None], xyz), axis=1, kind="stable")[:, :count]


def clouds(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    outlier = x.copy()
    outlier[n // 2] = 1e9
    shell = x / np.linalg.norm(x, axis=1, keepdims=True)
    return {"normal": x, "lattice": np.round(2 * x), "same": np.repeat(x[:1], n, 0), "outlier": outlier, "shell": shell}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 2, 15, 32, 33, 65, 255, 257, 1200])
def test_every_instruction_set_finds_the_same(isa: str, n: int) -> None:
    for kind, xyz in clouds(n).items():
        for count in {1, n // 3 + 1, min(n, 700)}:
            found = points.farthest(xyz[None], count, isa)
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found[0], farthest(xyz, count), err_msg=f"{kind} {count}")
        centres = np.concatenate([xyz[:: max(1, n // 12)], xyz[:4] * np.float32(1.5)])
        for count in {1, min(n, 3), min(n, 16), min(n, 64), min(n, 65), min(n, 200), n}:
            expected = nearest(centres, xyz, count)
            np.testing.assert_array_equal(points.nearest(centres[None], xyz[None], count, isa)[0], expected)
            for radius in (0.0, 0.3, 1.0, 100.0):
                away = np.take_along_axis(squared(centres[:, None], xyz), expected, 1)
                inside = np.where(away <= np.float32(radius) ** 2, expected, expected[:, :1])
                np.testing.assert_array_equal(points.within(centres[None], xyz[None], radius, count, isa)[0], inside)


@pytest.mark.parametrize("isa", ISAS)
def test_clouds_of_a_batch_have_nothing_to_do_with_one_another(isa: str) -> None:
    xyz = np.random.default_rng(0).standard_normal((3, 300, 3)).astype(np.float32)
    found = points.farthest(xyz, 40, isa), points.nearest(xyz[:, :9], xyz, 8, isa)
    for b in range(3):
        np.testing.assert_array_equal(found[0][b], farthest(xyz[b], 40))
        np.testing.assert_array_equal(found[1][b], nearest(xyz[b, :9], xyz[b], 8))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_of_coordinates_no_point_has_comes_some_index(isa: str, bad: float) -> None:
    for n in (1, 40, 700):
        xyz = clouds(n)["normal"][None]
        xyz[0, :: max(1, n // 9), 1] = bad
        for found in (
            points.farthest(xyz, n, isa),
            points.nearest(xyz, xyz, min(n, 20), isa),
            points.within(xyz, xyz, 0.5, min(n, 20), isa),
            points.nearest(np.full_like(xyz, bad), xyz, n, isa),
        ):
            assert found.min() >= 0
            assert found.max() < n


def test_inputs_are_taken_as_they_lie_in_memory() -> None:
    xyz = np.random.default_rng(1).standard_normal((2, 3, 500)).astype(np.float32).transpose(0, 2, 1)
    np.testing.assert_array_equal(points.farthest(xyz, 50), points.farthest(xyz.copy(), 50))


@pytest.mark.parametrize("count", [0, 6, -1])
def test_more_points_than_there_are_is_one_line(count: int) -> None:
    xyz = np.zeros((1, 5, 3), np.float32)
    with pytest.raises(BadInput, match=f"{count} of 5 points cannot be had"):
        points.nearest(xyz, xyz, count)
    with pytest.raises(BadInput, match=f"{count} of 5 points cannot be had"):
        points.farthest(xyz, count)


def test_what_are_no_points_is_one_line() -> None:
    xyz = np.zeros((2, 5, 3), np.float32)
    for bad in (xyz.astype(np.float64), xyz[0], xyz[..., :2]):
        with pytest.raises(BadInput, match=r"points are .*; give float32 \[B, N, 3\]"):
            points.farthest(bad, 1)
    with pytest.raises(BadInput, match="centres of 1 clouds and points of 2 do not go together"):
        points.nearest(xyz[:1], xyz, 1)
    with pytest.raises(BadInput, match="radius of -1 does not work"):
        points.within(xyz, xyz, -1, 1)
    with pytest.raises(BadInput, match="instruction set none cannot be used"):
        points.farthest(xyz, 1, "none")


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64])
@pytest.mark.parametrize("width", [1, 3, 64])
def test_rows_are_taken(dtype: type, width: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, (2, 30, width)).astype(dtype)
    index = rng.integers(0, 30, (2, 45), dtype=np.int32)
    found = points.take(x, index)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.stack([x[b, index[b]] for b in range(2)]))
    for bad in (-1, 30):
        index[1, 44] = bad
        with pytest.raises(BadInput, match=f"row {bad} is asked for, of 30"):
            points.take(x, index)
    with pytest.raises(BadInput, match=r"rows of \[30, .*\] by int32 \[2, 45\]; give"):
        points.take(x[0], index)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 2, 3, 500])
def test_features_for_other_points(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    x, xyz, centres = (rng.standard_normal((2, m, c)).astype(np.float32) for m, c in ((n, 7), (n, 3), (40, 3)))
    centres[:, 0] = xyz[:, 0]  # one on another
    found = points.interpolate(x, xyz, centres, isa)
    for b in range(2):
        near = nearest(centres[b], xyz[b], min(3, n))
        weights = 1 / (squared(centres[b][:, None], xyz[b][near]) + np.float32(1e-8))
        total = weights[:, 0].copy()
        for k in range(1, near.shape[1]):
            total += weights[:, k]
        weights /= total[:, None]
        expected = np.zeros((40, 7), np.float32)
        for k in range(near.shape[1]):
            expected += weights[:, k : k + 1] * x[b][near[:, k]]
        np.testing.assert_array_equal(found[b], expected)
    with pytest.raises(BadInput, match="do not go together"):
        points.interpolate(x[:1], xyz, centres)
