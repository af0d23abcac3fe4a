"""Fine-tuning: a pre-trained network and the same one from scratch, on the same splits, by the same recipe.

Nothing is chosen on the test items: the last weights count, there is no voting, and the recipe is fixed beforehand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.geometry.rotations import rotations
from shoestring.pretrain.evaluation.rotation import TURNS, turn_seed, turned
from shoestring.pretrain.evaluation.splits import Split
from shoestring.pretrain.views import posed
from shoestring.train.loop import train
from shoestring.train.recipe import Recipe

# Point-MAE's for fine-tuning, a fixed choice: AdamW, decay 0.05, a tenth of warm-up.
RECIPE = Recipe(
    epochs=60, batch=32, lr=5e-4, weight_decay=0.05, warmup=0.1, frozen=0, ema=0, distil=0, optimiser="adamw"
)
AS_GIVEN = "as given"


@dataclass
class Augmented:
    """Clouds float32 [n, N, 3] as `train` asks for them (`train.data.Batches`). Each is turned (`turn`: "z", "SO3" or
    empty), stretched by 0.8 to 1.25 along each axis and shifted by up to 0.1 (the recipe of PointNet++ and its
    followers); all of it follows from the seed, the epoch and the item."""

    clouds: ndarray
    labels: ndarray
    turn: str = "z"
    up: int = 1
    seed: int = 0
    labelled: bool = True

    def __len__(self) -> int:
        return len(self.clouds)

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[ndarray, ndarray]]:
        order = np.random.default_rng((self.seed, number)).permutation(len(self))
        batch = min(batch, len(self))
        for first in range(start * batch, len(self) - batch + 1, batch):
            items = order[first : first + batch][rank::world]
            clouds = np.stack([self._augment(number, int(item)) for item in items])
            yield clouds.astype(np.float32), self.labels[items].astype(np.int64)

    def _augment(self, number: int, item: int) -> ndarray:
        random = np.random.default_rng((self.seed, number, item))
        cloud = self.clouds[item].astype(np.float64)
        if self.turn:
            cloud = cloud @ rotations(self.turn, 1, random, self.up)[0].T
        return cloud * random.uniform(0.8, 1.25, 3) + random.uniform(-0.1, 0.1, 3)


class Posed(nn.Module):
    """`model` of clouds [B, N, 3] in the frames that `symmetry` says (`views.posed`), as a network to train."""

    def __init__(self, model: nn.Module, symmetry: str):
        super().__init__()
        self.model, self.symmetry = model, symmetry

    def forward(self, xyz: Tensor) -> Tensor:
        return posed(self.model, xyz, self.symmetry)


def fine_tune_scores(
    make: Callable[[int], nn.Module],
    clouds: ndarray,
    labels: ndarray,
    splits: Sequence[Split],
    recipe: Recipe = RECIPE,
    up: int = 1,
) -> dict[str, ndarray]:
    """Accuracy in per cent, float64 [splits], on test items as they are given and turned about `up` ("z") and anyhow
    ("SO3"), by the very turns of `rotation_scores`.

    `make(seed)`: a network float32 [B, N, 3] -> logits [B, classes], pre-trained or not: the row "from scratch" is the
    same call with a `make` that loads nothing; it learns from clouds turned about `up`. `clouds`: [n, N, 3]; `labels`:
    0..classes - 1 where a split has them. Raises BadInput for labels that the network has no logit for."""
    scores: dict[str, list[float]] = {}
    for split in splits:
        model = _tuned(make, clouds, labels, split, recipe, up)
        shown = {AS_GIVEN: clouds} | {kind: turned(clouds, kind, turn_seed(split.seed, kind), up) for kind in TURNS}
        for name, seen in shown.items():
            right = predict(model, seen[split.test]).argmax(1) == labels[split.test]
            scores.setdefault(name, []).append(100 * float(right.mean()))
    return {name: np.array(values) for name, values in scores.items()}


def _tuned(
    make: Callable[[int], nn.Module],
    clouds: ndarray,
    labels: ndarray,
    split: Split,
    recipe: Recipe,
    up: int,
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(split.seed)
        model = make(split.seed)
    _require(model, clouds[split.train[:1]], labels[np.concatenate([split.train, split.test])])
    data = Augmented(clouds[split.train], labels[split.train], up=up, seed=split.seed)
    train(model, data, replace(recipe, seed=split.seed))
    return model


def _require(model: nn.Module, cloud: ndarray, labels: ndarray) -> None:
    classes = predict(model, cloud).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise BadInput(f"fine-tune: labels {labels.min()} to {labels.max()} do not fit a network of {classes} classes")


@torch.no_grad()
def predict(model: nn.Module, clouds: ndarray, batch: int = 64) -> ndarray:
    """Outputs [n, ...] of `model` in eval mode for clouds [n, N, 3]."""
    model.eval()
    parts = [model(torch.from_numpy(clouds[i : i + batch].astype(np.float32))) for i in range(0, len(clouds), batch)]
    return torch.cat(parts).numpy()
