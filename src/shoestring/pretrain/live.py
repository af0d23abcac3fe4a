"""A glance at an encoder while it learns: how well a linear rule on its features tells labelled clouds apart.

Quick and always the same, to see a curve rise or a run collapse; what an encoder is worth is for a proper evaluation to
say.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from shoestring.core.errors import BadInput
from shoestring.deploy.archive import write_file
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.clouds import in_unit_sphere
from shoestring.pretrain.views import features

RIDGE = 0.1  # of the features' variance, which is 1
_CHUNK = 32


@dataclass(frozen=True)
class Labelled:
    """Clouds [n, N, 3] and their classes int64 [n], to look at an encoder with; those of class -1 are left out, and
    `points` of each are shown, always the same. Raises BadInput for arrays that do not fit, or with fewer than two
    classes."""

    clouds: ndarray
    labels: ndarray
    points: int = 1024

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.shape != (len(self.clouds),) or labels.dtype.kind not in "iu":
            raise BadInput(f"probe: labels {labels.dtype} {list(labels.shape)} are not one whole number a cloud")
        known = labels >= 0
        if len(set(labels[known].tolist())) < 2:
            raise BadInput("probe: has clouds of fewer than two classes; give labelled data of more")
        drawn = np.random.default_rng(0).permutation(self.clouds.shape[1])[: self.points]
        shown = in_unit_sphere(np.asarray(self.clouds)[known][:, drawn])
        object.__setattr__(self, "clouds", shown)
        object.__setattr__(self, "labels", labels[known].astype(np.int64))

    def features(self, encoder: PointViT, symmetry: str = "none") -> ndarray:
        """float32 [n, 2 dim]; the encoder is left in the mode it was in."""
        learning, home = encoder.training, next(encoder.parameters()).device
        encoder.eval()
        with torch.no_grad():
            parts = [
                features(encoder, torch.from_numpy(part).to(home), symmetry).cpu().numpy()
                for part in np.array_split(self.clouds, -(-len(self.clouds) // _CHUNK))
            ]
        encoder.train(learning)
        return np.concatenate(parts)


def ridge_accuracy(values: ndarray, labels: ndarray, folds: int = 5, seed: int = 0) -> float:
    """The share of features [n, d] that are given their class by least squares on the other folds: a class's score is
    a linear function with `RIDGE` on its squared weights, the largest wins. Every fold has its part of each class."""
    fold = parts(labels, folds, seed)
    right = 0
    for held in range(folds):
        train, test = fold != held, fold == held
        mean, scale = values[train].mean(0), values[train].std(0) + 1e-6
        x, z = (values[train] - mean) / scale, (values[test] - mean) / scale
        wanted = (labels[train][:, None] == np.arange(labels.max() + 1)).astype(np.float64)
        centre = wanted.mean(0)
        solved = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (wanted - centre))
        right += int(((z @ solved + centre).argmax(1) == labels[test]).sum())
    return right / len(labels)


def effective_rank(values: ndarray) -> float:
    """How many directions features [n, d] fill, from 1 to min(n, d): the exponential of the entropy of their singular
    values (RankMe, arXiv 2210.02885, eq. 1, of centred features). One that falls towards 1 is a run that collapses."""
    sizes = np.linalg.svd(values - values.mean(0), compute_uv=False)
    shares = sizes / max(sizes.sum(), 1e-12)
    return float(np.exp(-(shares * np.log(np.maximum(shares, 1e-12))).sum()))


def parts(labels: ndarray, folds: int, seed: int) -> ndarray:
    """The fold int64 [n] of each: the members of each class dealt out in turn, in random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


@dataclass
class Log:
    """Rows of {"epoch", "loss"} and, after `every` epochs each, {"probe", "rank"}: percent right and `effective_rank`.
    Kept in `path` as they come, so that a run that is continued has those from before."""

    path: Path
    encoder: PointViT
    symmetry: str
    labelled: Labelled | None = None
    every: int = 10
    epochs: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def on_epoch(self, losses: Sequence[float]) -> str:
        """Writes the row of the last epoch; what is to be said of it."""
        done = len(losses)
        kept = {row["epoch"]: row for row in self.rows or self._before() if row["epoch"] < done}
        self.rows = [kept.get(epoch, {"epoch": epoch, "loss": loss}) for epoch, loss in enumerate(losses, 1)]
        if self.labelled is not None and (done % self.every == 0 or done == self.epochs):
            values = self.labelled.features(self.encoder, self.symmetry)
            found = {"probe": 100 * ridge_accuracy(values, self.labelled.labels), "rank": effective_rank(values)}
            self.rows[-1] |= {name: round(value, 2) for name, value in found.items()}
        write_file(self.path, (json.dumps(self.rows, indent=1) + "\n").encode())
        seen = [row for row in self.rows if "probe" in row]
        return f"probe {seen[-1]['probe']:.1f} %, rank {seen[-1]['rank']:.1f}" if seen else ""

    def finish(self, losses: Sequence[float]) -> list[dict[str, Any]]:
        """All rows of a run that is over, be it that it was over before it was asked for."""
        kept = {row["epoch"]: row for row in self.rows or self._before()}
        return [kept.get(epoch, {"epoch": epoch, "loss": loss}) for epoch, loss in enumerate(losses, 1)]

    def _before(self) -> list[dict[str, Any]]:
        try:
            rows = json.loads(self.path.read_text())
            return [row for row in rows if isinstance(row["epoch"], int)]
        except (OSError, ValueError, TypeError, KeyError):
            return []
