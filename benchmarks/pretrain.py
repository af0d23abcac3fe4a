"""What does learning without labels bring on a few hundred clouds? Linear probes of frozen encoders, on one thread.

    python benchmarks/pretrain.py [--data DIR] [--objectives point_jepa ...] [--seeds 0 1] [--epochs 100] [--out DIR]

Furniture and other everyday objects: 679 clouds, 230 with one of 12 classes. An encoder (`point_vit`, 1,024 points)
learns from all 679 without labels; then a linear SVM on its features, C chosen inside the training split, judges it on
five folds of the labelled ones, several times over (intervals: Nadeau and Bengio 2003). The probe is asked three
questions: clouds as they are given (all face the same way), turned about the vertical at random (z/z), and tested in
any pose after training on upright ones (z/SO3). Beside it: the same encoder untrained, the same network trained on the
labelled part alone, and hand-made shape features in a random forest. The encoder has seen the clouds that are tested
(without labels), as is usual; a row says nothing about clouds from elsewhere.

Encoders and scores are kept in --out, so a run that was stopped goes on; each encoder is some minutes to half an hour.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from shoestring.core.resamples import resampled_interval
from shoestring.models.point_vit import PointViT
from shoestring.pretrain import OBJECTIVES, Labelled, Request, Views, features, load_encoder, pretrain, recipe
from shoestring.pretrain.clouds import in_unit_sphere
from shoestring.pretrain.evaluation.fine_tune import RECIPE, fine_tune_scores
from shoestring.pretrain.evaluation.linear_svm import svm_scores
from shoestring.pretrain.evaluation.random_forest import forest_scores
from shoestring.pretrain.evaluation.rotation import rotation_scores
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.evaluation.splits import stratified_folds

ROOT = Path(__file__).parents[1]
FOLDS, POINTS = 5, 1024
VIEWS = {"contrast": {"crop": 0.7, "jitter": 0.01}, "cross_modal": {"crop": 0.7, "jitter": 0.01}}


def main() -> int:
    options = arguments()
    if not (options.data / "points2048.npz").exists():
        print(f"skipped: no {options.data / 'points2048.npz'}; give --data DIR")
        return 0
    tests = [str(path) for path in sorted((ROOT / "tests/pretrain").glob("**/test_*.py"))]
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with np.load(options.data / "points2048.npz") as packed:
        clouds, labels = packed["points"], packed["label"].astype(np.int64)
    known = labels >= 0
    judge = Judge(clouds[known], labels[known], options.out / "scores.json", options.splits)
    judge.row("shape features, random forest", judge.forest)
    for seed in options.seeds:
        judge.row(f"untrained, seed {seed}", lambda seed=seed: judge.probed(untrained(seed), "none"))
    for objective in options.objectives:
        for seed in options.seeds:
            path = options.out / f"{name_of(options, objective)}-{seed}.safetensors"
            if not path.exists():
                learn(clouds, labels, objective, seed, path, options)
            encoder, about = load_encoder(path)
            told = f"{name_of(options, objective)}, seed {seed} ({about['seconds'] / 60:.0f} min)"
            judge.row(told, lambda encoder=encoder, about=about: judge.probed(encoder, about["symmetry"]))
    if options.scratch:
        judge.row("from scratch, on the labelled part", judge.scratch)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/furniture3d", help="points2048.npz")
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=float, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--rotate", default="up", help="none, up or so3")
    parser.add_argument("--symmetry", default="none", help="none, frames or average")
    parser.add_argument("--splits", type=int, default=3, help="times five folds")
    parser.add_argument("--scratch", action="store_true", help="train from scratch too: five folds, 20 minutes")
    parser.add_argument("--out", type=Path, default=Path("pretrain-furniture3d"))
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def name_of(options: argparse.Namespace, objective: str) -> str:
    extra = "" if options.symmetry == "none" else f" {options.symmetry}"
    return f"{objective}{extra} {options.rotate} {options.epochs:g} epochs"


def untrained(seed: int) -> PointViT:
    torch.manual_seed(seed)
    return PointViT().eval()


def learn(clouds: ndarray, labels: ndarray, objective: str, seed: int, path: Path, options: Any) -> None:
    look = Views(rotate=options.rotate, symmetry=options.symmetry, **VIEWS.get(objective, {}))
    request = Request(path, recipe(options.epochs, lr=options.lr, seed=seed), objective=objective, look=look)
    said = set[str]()

    def told(text: str, share: float) -> None:
        epoch = text.split(",")[1]
        if "probe" in text and int(epoch.split()[1]) % request.every == 0 and epoch not in said:
            said.add(epoch)
            print(f"{path.stem}: {text}", file=sys.stderr, flush=True)

    pretrain(clouds, request, Labelled(clouds, labels), told)


class Judge:
    """Scores of the labelled clouds, kept as they come, and printed as rows of a table."""

    def __init__(self, clouds: ndarray, labels: ndarray, path: Path, seeds: int):
        self.metres, self.labels, self.path = clouds.astype(np.float32), labels, path
        self.clouds = in_unit_sphere(clouds)[:, :POINTS]
        self.splits = stratified_folds(labels, FOLDS, seeds)
        self.kept: dict[str, dict[str, list[float]]] = json.loads(path.read_text()) if path.exists() else {}
        print(f"\n{len(labels)} clouds, {len(set(labels.tolist()))} classes, {FOLDS} folds x {seeds}\n")
        print("| | as given, % | z/z, % | z/SO3, % |\n|---|---|---|---|")

    def row(self, name: str, measure: Callable[[], dict[str, Sequence[float]]]) -> None:
        if name not in self.kept:
            self.kept[name] = {key: [float(v) for v in values] for key, values in measure().items()}
            self.path.write_text(json.dumps(self.kept, indent=1))
        cells = [self.kept[name].get(key) for key in ("given", "z/z", "z/SO3")]
        print(f"| {name} | {' | '.join(map(cell, cells))} |", flush=True)

    def forest(self) -> dict[str, Sequence[float]]:
        def of(clouds: ndarray) -> ndarray:
            return shape_features(clouds)

        turned = rotation_scores(of, forest_scores, self.metres, self.labels, self.splits)
        return {"given": forest_scores(of(self.metres), self.labels, self.splits), **turned}

    def probed(self, encoder: PointViT, symmetry: str) -> dict[str, Sequence[float]]:
        @torch.no_grad()
        def of(clouds: ndarray) -> ndarray:
            parts = np.array_split(clouds.astype(np.float32), -(-len(clouds) // 32))
            return np.concatenate([features(encoder, torch.from_numpy(part), symmetry).numpy() for part in parts])

        turned = rotation_scores(of, svm_scores, self.clouds, self.labels, self.splits)
        return {"given": svm_scores(of(self.clouds), self.labels, self.splits), **turned}

    def scratch(self) -> dict[str, Sequence[float]]:
        """One seed of folds, trained with turns about the vertical."""

        def made(seed: int) -> PointViT:
            torch.manual_seed(seed)
            return PointViT(classes=int(self.labels.max()) + 1)

        return {"given": fine_tune_scores(made, self.clouds, self.labels, self.splits[:FOLDS], RECIPE)}


def cell(scores: Sequence[float] | None) -> str:
    if not scores:
        return ""
    found = resampled_interval(scores, 1 / (FOLDS - 1))
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


if __name__ == "__main__":
    sys.exit(main())
