"""Clouds as batches: in the unit sphere, other points every epoch, the same for one seed, shared without overlap."""

from collections.abc import Callable

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.clouds import Clouds, digest, in_unit_sphere


def test_clouds_lie_about_their_mean_in_the_unit_sphere(clouds: np.ndarray) -> None:
    found = in_unit_sphere(clouds * 7 + 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2).max(1), 1, rtol=1e-5)


def test_an_epoch_shows_every_cloud_once_with_points_of_its_own(clouds: np.ndarray) -> None:
    data = Clouds(clouds, 48)
    batches = list(data.epoch(0, 7))
    assert sorted(np.concatenate([index for _, index in batches])) == list(range(14))
    for inputs, index in batches:
        assert inputs.shape == (7, 48, 3)
        assert inputs.dtype == np.float32
        for cloud, number in zip(inputs, index, strict=True):
            own = {tuple(point) for point in data.clouds[number]}
            assert len({tuple(point) for point in cloud} & own) == 48


def test_points_differ_by_epoch_and_not_by_how_they_are_asked_for(clouds: np.ndarray) -> None:
    def shown(data: Clouds, **how: int) -> dict[int, bytes]:
        return {
            int(n): cloud.tobytes()
            for inputs, index in data.epoch(**{"number": 1, "batch": 4, **how})
            for cloud, n in zip(inputs, index, strict=True)
        }

    data = Clouds(clouds, 48)
    all_of_it = shown(data)
    assert len(all_of_it) == 12  # the short batch is dropped
    assert shown(Clouds(clouds, 48)) == all_of_it
    assert shown(data, start=1).items() <= all_of_it.items()
    halves = [shown(data, rank=rank, world=2) for rank in range(2)]
    assert halves[0] | halves[1] == all_of_it
    assert not halves[0].keys() & halves[1].keys()
    other = shown(data, number=2, batch=14)
    assert not any(other[number] == own for number, own in all_of_it.items())
    assert shown(Clouds(clouds, 48, seed=1)) != all_of_it


def test_a_single_short_batch_is_kept(clouds: np.ndarray) -> None:
    ((inputs, _),) = Clouds(clouds, 48).epoch(0, 99)
    assert len(inputs) == 14


def test_shares_of_a_short_batch_are_of_one_size(clouds: np.ndarray) -> None:
    """Processes that gather wait for one another for ever if one has more."""
    shares = [next(Clouds(clouds, 48).epoch(0, 99, rank=rank, world=4))[1] for rank in range(4)]
    assert [len(share) for share in shares] == [3, 3, 3, 3]
    assert len(set(np.concatenate(shares).tolist())) == 12


def test_a_digest_tells_values_shapes_and_types(clouds: np.ndarray) -> None:
    changed = clouds.copy()
    changed[3, 2, 1] += 1
    same = [digest(clouds), digest(clouds.copy()), digest(np.asfortranarray(clouds))]
    others = [digest(changed), digest(clouds.astype(np.float32)), digest(clouds.reshape(28, 40, 3))]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 4


def _nan(clouds: np.ndarray) -> np.ndarray:
    clouds[4, 0, 0] = np.nan
    return clouds


@pytest.mark.parametrize(
    ("change", "points", "told"),
    [
        (lambda c: c[0], 8, r"\[80, 3\] is no set of clouds; give \[clouds, points, 3\]"),
        (lambda c: c[..., :2], 8, "is no set of clouds"),
        (lambda c: c[:1], 8, "1 clouds are too few"),
        (_nan, 8, "cloud 4 has coordinates that are not finite"),
        (lambda c: c, 81, "81 of 80 cannot be drawn; give 1 to 80"),
        (lambda c: c, 0, "0 of 80 cannot be drawn"),
        (lambda c: np.concatenate([c, np.ones_like(c[:1])]), 8, "all points of cloud 14 are one"),
    ],
)
def test_what_cannot_be_learned_from_is_told(
    clouds: np.ndarray, change: Callable[[np.ndarray], np.ndarray], points: int, told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        Clouds(change(clouds), points)
