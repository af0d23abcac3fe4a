"""What are features of shapes worth, and what do they cost? Every protocol, every subject, one table.

    python benchmarks/points_probes.py [--data DIR] [--encoder FILE ...] [--splits 3] [--html FILE] [--json FILE]

230 everyday objects of 12 classes, 1,024 points each, scaled to the unit sphere for all subjects alike: size in metres
would tell a lamp from a wardrobe by itself. Hand-made features go through a random forest, all others through a linear
SVM whose C is chosen inside the training split. Networks are untrained unless `--encoder` gives one that
`shoestring.pretrain` wrote: an untrained network is the floor that learning has to leave. Splits, episodes and turns
are the same for all; nothing is chosen on test items. Costs are of the network in torch, one cloud, one thread.

Needs `pip install scikit-learn`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from rich.console import Console
from torch import nn

from shoestring.core.evaluation import Cost, Evaluation, Row
from shoestring.core.resamples import resampled_interval
from shoestring.measure.machine import processor
from shoestring.models.point_vit import PointViT
from shoestring.models.vn_pointnet import VNPointNet
from shoestring.pretrain import features as encoded
from shoestring.pretrain import load_encoder
from shoestring.pretrain.clouds import in_unit_sphere
from shoestring.pretrain.evaluation.cost import network_cost
from shoestring.pretrain.evaluation.equivariance import invariance_error
from shoestring.pretrain.evaluation.few_shot import few_shot
from shoestring.pretrain.evaluation.label_fraction import fraction_scores
from shoestring.pretrain.evaluation.linear_svm import svm_scores
from shoestring.pretrain.evaluation.nearest import nearest_scores
from shoestring.pretrain.evaluation.random_forest import forest_scores
from shoestring.pretrain.evaluation.rotation import Probe, rotation_scores
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.evaluation.splits import stratified_folds
from shoestring.report.cloud import embedded, pca_colours, splat
from shoestring.report.evaluation import evaluation_html, print_evaluation
from shoestring.report.markup import Markup

ROOT = Path(__file__).parents[1]
FOLDS, POINTS, EPISODES, SHARE = 5, 1024, 10, 0.25
RATIO = 1 / (FOLDS - 1)


@dataclass(frozen=True)
class Subject:
    """`features`: clouds [n, N, 3] to [n, d]; `probe`: what judges them where a protocol does not say."""

    name: str
    features: Callable[[ndarray], ndarray]
    probe: Probe
    cost: Cost = field(default_factory=Cost)
    encoder: PointViT | None = None
    symmetry: str = "none"

    @property
    def baseline(self) -> bool:
        return self.encoder is None


def main() -> int:
    options = arguments()
    file = options.data / "points2048.npz"
    if not file.exists():
        print(f"skipped: no {file}; give --data DIR")
        return 0
    tests = ["tests/pretrain/evaluation", "tests/models/test_vn_pointnet.py", "tests/core/test_resamples.py"]
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    with np.load(file) as packed:
        known = packed["label"] >= 0
        clouds, labels = in_unit_sphere(packed["points"][known])[:, :POINTS], packed["label"][known].astype(np.int64)
    rows: list[Row] = []
    for subject in subjects(options, clouds):
        start = time.process_time()
        rows += judged(subject, clouds, labels, options.splits)
        print(f"{subject.name}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
    order = list(dict.fromkeys(row.protocol for row in rows))
    rows.sort(key=lambda row: order.index(row.protocol))
    table = Evaluation(
        "Probes of everyday objects",
        "accuracy",
        f"{len(labels)} objects, {len(set(labels.tolist()))} classes, {POINTS:,} points in the unit sphere; "
        f"{FOLDS} stratified folds x {options.splits} seeds, {EPISODES} episodes",
        tuple(rows),
        {"processor": processor(), "threads": 1, "versions": {"torch": torch.__version__}},
        (
            "C, k: chosen inside the training split. No voting, no best of several runs.",
            "Intervals: Nadeau and Bengio (2003) for folds, whose training sets overlap; Student's t for episodes.",
            "Milliseconds: CPU time of the network in torch, one cloud; peak MB: interpreter and torch in it.",
        ),
    )
    print_evaluation(table, Console(width=120))
    if options.json:
        options.json.write_text(json.dumps(table.to_json(), indent=1))
    if options.html:
        options.html.write_text(evaluation_html(table, pictures(options, clouds)), encoding="utf-8")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/furniture3d", help="points2048.npz")
    parser.add_argument("--encoder", type=Path, nargs="*", default=[], help="NAME.safetensors of pretrain")
    parser.add_argument("--splits", type=int, default=3, help="times five folds")
    parser.add_argument("--html", type=Path, help="the table and pictures as a page")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-tests", action="store_true")
    return parser.parse_args()


def subjects(options: argparse.Namespace, clouds: ndarray) -> list[Subject]:
    example = torch.from_numpy(clouds[:1]).float()
    found = [
        Subject("hand-made, random forest", shape_features, partial(forest_scores, trees=100)),
        Subject(
            "hand-made, invariant, forest", partial(shape_features, invariant=True), partial(forest_scores, trees=100)
        ),
    ]
    torch.manual_seed(0)
    vector = settled(VNPointNet(12), clouds)
    found.append(
        Subject("VN-PointNet, untrained", through(vector.invariants), svm_scores, network_cost(vector, example))
    )
    encoders = [(PointViT().eval(), "PointViT, untrained", "none")]
    encoders += [
        (encoder, path.stem, about["symmetry"]) for path in options.encoder for encoder, about in [load_encoder(path)]
    ]
    for encoder, name, symmetry in encoders:
        of = through(partial(encoded, encoder, symmetry=symmetry))
        found.append(Subject(name, of, svm_scores, network_cost(encoder, example), encoder, symmetry))
    return found


@torch.no_grad()
def settled(model: nn.Module, clouds: ndarray) -> nn.Module:
    """With statistics of the clouds in its norms: without them an untrained network's features fade."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
    model.train()(torch.from_numpy(clouds[:32]).float())
    return model.eval()


def through(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[ndarray], ndarray]:
    @torch.no_grad()
    def of(clouds: ndarray) -> ndarray:
        parts = np.array_split(clouds.astype(np.float32), -(-len(clouds) // 32))
        return np.concatenate([function(torch.from_numpy(part)).numpy() for part in parts])

    return of


def judged(subject: Subject, clouds: ndarray, labels: ndarray, seeds: int) -> list[Row]:
    splits, features = stratified_folds(labels, FOLDS, seeds), subject.features(clouds)
    rows: list[Row] = []

    def add(protocol: str, scores: ndarray, ratio: float, of: int, **more: object) -> None:
        found = resampled_interval(scores, ratio)
        told = found.value, found.low, found.high, found.n, of
        rows.append(Row(subject.name, protocol, *told, subject.cost, subject.baseline, **more))

    probe = subject.probe
    add("all labels", probe(features, labels, splits), RATIO, seeds)
    add("nearest neighbours", nearest_scores(features, labels, splits), RATIO, seeds)
    fewer = fraction_scores(lambda of: probe(features, labels, of), labels, splits, (SHARE,))
    add(f"{SHARE:.0%} of the labels", fewer[SHARE], RATIO, seeds)
    add("5-way 10-shot", few_shot(features, labels, 5, 10, EPISODES, probe).scores, 0.0, EPISODES)
    turned = rotation_scores(subject.features, probe, clouds, labels, splits)
    for name, scores in turned.items():
        add(f"turned {name}", scores, RATIO, seeds)
    error = invariance_error(subject.features, clouds[:64], turns=4).mean(1)
    add("invariance error", error, 0.0, 1, higher_is_better=False, unit="")
    return rows


@torch.no_grad()
def pictures(options: argparse.Namespace, clouds: ndarray) -> dict[str, Markup]:
    """Three objects, coloured together, so that one colour is one feature in all of them."""
    encoder = load_encoder(options.encoder[0])[0] if options.encoder else PointViT().eval()
    items = (4, 60, 150)
    x = torch.from_numpy(clouds[list(items)]).float()
    colours = pca_colours(encoder.point_features(x).flatten(0, 1).numpy()).reshape(len(items), -1, 3)
    told = options.encoder[0].stem if options.encoder else "untrained PointViT"
    return {
        f"Object {item}: point features of the {told}": embedded(splat(cloud, of, (560, 420), up=1), f"object {item}")
        for item, cloud, of in zip(items, clouds[list(items)], colours, strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
