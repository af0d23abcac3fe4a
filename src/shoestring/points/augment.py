"""Augmentation: clouds as they might as well have been scanned. All random numbers come from the given generator."""

from dataclasses import dataclass

import numpy as np

from shoestring.geometry.rotations import rotations

_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Augmentation:
    """What happens to a cloud that is placed already (its size is about 1), in the order of the fields; 0 or False:
    nothing. Defaults after Qi et al. 2017 (PointNet, appendix; PointNet++, section 4.1), weaker where they blur shapes.

    `turn`: about the axis that points up, or any way where none does; `tilt`: standard deviation in radians of a turn
    about a random axis besides; `mirror`: half of the clouds, across a plane that holds the up axis; `stretch`: each
    axis by 1/(1 + stretch) to 1 + stretch; `shift`: along each axis by up to so much; `jitter`: standard deviation of
    each coordinate, cut at five; `drop`: a share of up to so much of the points is replaced by others of the cloud."""

    turn: bool = True
    tilt: float = 0.06
    mirror: bool = False
    stretch: float = 0.25
    shift: float = 0.1
    jitter: float = 0.01
    drop: float = 0.3


def augmented(points: np.ndarray, up: str | None, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """float32 [n, 3] of float32 [n, 3]. `up`: "y", "z", or None."""
    matrix = np.eye(3)
    if how.turn:
        matrix = rotations("SO3", 1, rng)[0] if up is None else turn(_AXES[up], rng.uniform(0, 2 * np.pi))
    if how.tilt:
        matrix = about(rng.standard_normal(3), rng.normal(0, how.tilt)) @ matrix
    if how.mirror and rng.random() < 0.5:
        matrix = np.diag([-1.0, 1.0, 1.0]) @ matrix
    if how.stretch:
        matrix = np.diag((1 + how.stretch) ** rng.uniform(-1, 1, 3)) @ matrix
    found = points @ matrix.T + rng.uniform(-how.shift, how.shift, 3)
    if how.jitter:
        found += (how.jitter * rng.standard_normal(found.shape)).clip(-5 * how.jitter, 5 * how.jitter)
    if how.drop:
        gone = rng.random(len(found)) < rng.uniform(0, how.drop)
        if 0 < gone.sum() < len(found):
            found[gone] = found[rng.choice(np.flatnonzero(~gone), int(gone.sum()))]
    return np.asarray(found, np.float32)


def turn(axis: int, angle: float) -> np.ndarray:
    """[3, 3]: by `angle` radians about a coordinate axis."""
    return about(np.eye(3)[axis], angle)


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """[3, 3]: by `angle` radians about `axis` of any length (Rodrigues 1840)."""
    x, y, z = axis / max(float(np.linalg.norm(axis)), 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
