"""Point clouds as one array, for what learns from all of them and knows no files."""

import warnings

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput
from shoestring.deploy.cloud_spec import chosen, cloud, ordered
from shoestring.pipeline.dataset import Dataset


def stacked(dataset: Dataset, points: int) -> tuple[ndarray, ndarray]:
    """float32 [n, points, 3] in the files' units, and the classes int64 [n], -1 where there is none.

    Of each cloud `points` that leave out no region, those of fewer about equally often (`deploy.cloud_spec.chosen`).
    Raises BadInput for a cloud that cannot be read, and when there is none."""
    if not len(dataset):
        raise BadInput("data: holds no point cloud")
    # About its own mean first, where float32 has digits to spare for it.
    clouds = [chosen(ordered(cloud(raw)), points).astype(np.float64) for raw, _ in dataset]
    found = np.stack([(own - own.mean(0)).astype(np.float32) for own in clouds])
    return found, np.array([-1 if target is None else target for target in dataset.targets], np.int64)


def distinct(clouds: ndarray) -> ndarray:
    """Indices int64, ascending, of the clouds [n, N, 3] to learn from where they come from anywhere: those whose points
    are not all one, and of equal ones the first (packages hold copies). Tells in one warning what is left out."""
    there = np.ptp(clouds, axis=1).max(1) > 0
    firsts: dict[bytes, int] = {}
    for index in np.flatnonzero(there):
        firsts.setdefault(clouds[index].tobytes(), int(index))
    kept = np.array(sorted(firsts.values()), np.int64)
    points, copies = int((~there).sum()), int(there.sum()) - len(kept)
    if points or copies:
        told = [f"{points} without extent"] * bool(points) + [f"{copies} that are there already"] * bool(copies)
        warnings.warn(f"data: left out {points + copies} of {len(clouds)} clouds, {' and '.join(told)}", stacklevel=2)
    return kept
