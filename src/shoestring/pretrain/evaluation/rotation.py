"""The rotation protocol z/z, z/SO(3), SO(3)/SO(3): what a probe is worth on shapes turned in ways it was or was not
trained on (Esteves et al. 2018, arXiv 1711.06721; Deng et al. 2021, arXiv 2104.12229, section 5).

"z" is a turn about the vertical, whichever axis that is in the data; SO(3) is any turn.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy import ndarray

from shoestring.geometry.rotations import rotations
from shoestring.pretrain.evaluation.splits import Split

Features = Callable[[ndarray], ndarray]
Probe = Callable[[ndarray, ndarray, Sequence[Split]], ndarray]
PROTOCOLS = (("z", "z"), ("z", "SO3"), ("SO3", "SO3"))
TURNS = ("z", "SO3")


def turn_seed(seed: int, kind: str) -> int:
    """What `turned` draws by for the splits of a seed: each of them and each kind has turns of its own."""
    return 2 * seed + (kind == "SO3")


def turned(clouds: ndarray, kind: str, seed: int, up: int = 1) -> ndarray:
    """`clouds` float [n, N, 3], each turned by a rotation of its own about its mean; float32."""
    clouds = np.asarray(clouds, np.float64)
    turns = rotations(kind, len(clouds), np.random.default_rng((seed, 3)), up)
    middle = clouds.mean(1, keepdims=True)
    return ((clouds - middle) @ turns.transpose(0, 2, 1) + middle).astype(np.float32)


def rotation_scores(
    features: Features, probe: Probe, clouds: ndarray, labels: ndarray, splits: Sequence[Split], up: int = 1
) -> dict[str, ndarray]:
    """Scores [splits] of `probe(features, labels, splits)` for "z/z", "z/SO3" and "SO3/SO3": trained on items turned
    one way, tested on the others turned the other way. Each seed of the splits turns the items anew."""
    scores: dict[str, list[float]] = {f"{train}/{test}": [] for train, test in PROTOCOLS}
    for seed in sorted({split.seed for split in splits}):
        of = {kind: features(turned(clouds, kind, turn_seed(seed, kind), up)) for kind in TURNS}
        for split in splits:
            if split.seed != seed:
                continue
            for train, test in PROTOCOLS:
                both = of[train].copy()
                both[split.test] = of[test][split.test]
                scores[f"{train}/{test}"].append(float(probe(both, labels, [split])[0]))
    return {name: np.array(of) for name, of in scores.items()}
