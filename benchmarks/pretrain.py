"""What does learning without labels bring on a few hundred clouds? Encoders learn, everything is judged, one table.

    python benchmarks/pretrain.py [--data DIR] [--learn contrast point_mae:frames ...] [--seeds 0 1] [--out DIR]

Furniture and other everyday objects: 679 clouds, 230 with one of 12 classes. Each of --learn, an objective with or
without `:frames` or `:average`, makes an encoder of all 679 without their labels, in the settings that the table tells;
those that are in --out already are taken from there, and so are scores: what was stopped goes on. All are judged by the
protocols of `pretrain.evaluation.judge` on the same splits, in the unit sphere; with --metres the forest is also shown
sizes in metres, which tell a lamp from a wardrobe by themselves. `untrained` is the same network at its random weights;
`settled` too, with the statistics of its batch norms taken from the data, which is all that a first epoch of anything
brings; --scratch trains it on the labelled part of each split instead. --encoder judges files of `shoestring pretrain`.
--also adds meshes to what is learned from: points on every .obj, .stl and .off in these folders, such as those that
packages for robots bring; baselines and what is judged stay as they are.

The encoders saw the clouds that are tested, without labels, as is usual; nothing is told of clouds from elsewhere.
Needs the extra `points`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy import ndarray
from rich.console import Console
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shoestring.core.evaluation import Evaluation
from shoestring.models.point_vit import PointViT
from shoestring.models.vn_pointnet import VNPointNet
from shoestring.pipeline.dataset import without_broken
from shoestring.pipeline.folders import Files, read_folder
from shoestring.points.dataset import CloudFile
from shoestring.points.stacked import distinct, stacked
from shoestring.pretrain import (
    OBJECTIVES,
    Clouds,
    Labelled,
    Request,
    Views,
    load_encoder,
    load_vectors,
    pretrain,
    recipe,
)
from shoestring.pretrain.clouds import in_unit_sphere
from shoestring.pretrain.evaluation.cost import network_cost
from shoestring.pretrain.evaluation.fine_tune import AS_GIVEN, RECIPE, Posed, fine_tune_scores
from shoestring.pretrain.evaluation.judge import (
    ANY_POSE,
    ANYHOW,
    COST,
    LINEAR,
    UPRIGHT,
    Exam,
    Judged,
    Scores,
    Subject,
    exam,
    judge,
    parse_protocols,
    require_protocols,
)
from shoestring.pretrain.evaluation.pictures import feature_pictures
from shoestring.pretrain.evaluation.subjects import encoder_subject, hand_made, through
from shoestring.pretrain.evaluation.table import evaluation
from shoestring.report.evaluation import evaluation_html, print_evaluation

ROOT = Path(__file__).parents[1]
VIEWS = {name: {"crop": 0.7, "jitter": 0.01} for name in ("contrast", "cross_modal", "equivariant")}
MESHES = Files("mesh", CloudFile, frozenset((".obj", ".off", ".stl")))
RIVALS = ("untrained", "settled", "forest", "scratch")
AGAINST = {LINEAR: RIVALS, UPRIGHT: RIVALS, ANY_POSE: ("settled, frames", "forest, invariant", "scratch, frames")}
Network = TypeVar("Network", bound=nn.Module)
TESTS = ("tests/pretrain", "tests/core/test_resamples.py")


def main() -> int:
    options = arguments()
    file = options.data / "points2048.npz"
    if not file.exists():
        print(f"skipped: no {file}; give --data DIR")
        return 0
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with np.load(file) as packed:
        clouds, labels = packed["points"], packed["label"].astype(np.int64)
    protocols = parse_protocols(options.protocols)
    require_protocols(protocols, labels[labels >= 0])
    of = exam(in_unit_sphere(clouds[labels >= 0])[:, : options.points], labels[labels >= 0], options.splits)
    kept = Kept(options.out / "scores.json", of, protocols, f"{options.epochs:g} epochs, {options.rotate}")
    more = meshes(options.also, clouds.shape[1])
    names = [kept.judged(subject, encoder) for subject, encoder in subjects(options, clouds, labels, more)]
    if options.scratch:
        names[:0] = [kept.scratch(options, symmetry) for symmetry in ("none", "frames")]
    said = told(options, len(clouds), len(more))
    table = evaluation("Learning without labels", names, of, AGAINST, said, notes(options))
    print_evaluation(table, Console(width=120))
    (options.out / "table.md").write_text(matrix(table))
    (options.out / "table.json").write_text(json.dumps(table.to_json(), indent=1))
    page = evaluation_html(table, pictures(options, of))
    (options.out / "table.html").write_text(page, encoding="utf-8")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/furniture3d", help="points2048.npz")
    parser.add_argument("--also", type=Path, nargs="*", default=[], metavar="DIR", help="meshes to learn from, too")
    parser.add_argument("--learn", nargs="*", default=[*OBJECTIVES, "contrast:frames"], help="OBJECTIVE[:SYMMETRY]")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--patches", type=int, default=32)
    parser.add_argument("--neighbours", type=int, default=16)
    parser.add_argument("--rotate", default="up", help="none, up or so3")
    parser.add_argument("--encoder", type=Path, nargs="*", default=[], help="NAME.safetensors of `shoestring pretrain`")
    parser.add_argument("--protocols", default="linear,knn,labels,rotation,invariance", help="as `pretrain` has them")
    parser.add_argument("--splits", type=int, default=3, help="times five folds")
    parser.add_argument("--scratch", type=int, default=0, metavar="EPOCHS", help="train from scratch, too")
    parser.add_argument("--scratch-splits", type=int, default=1, help="times five folds, of those of all")
    parser.add_argument("--metres", action="store_true", help="the forest in metres, too")
    parser.add_argument(
        "--vector", action="store_true", help="a network of vectors (VN-PointNet) at random weights, too"
    )
    parser.add_argument("--no-learning", action="store_true", help="judge the encoders that are there")
    parser.add_argument("--out", type=Path, default=Path("pretrain-furniture3d"))
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def network(options: Any, seed: int = 0, classes: int = 0) -> PointViT:
    torch.manual_seed(seed)
    return PointViT(patches=options.patches, neighbours=options.neighbours, classes=classes)


def meshes(folders: list[Path], points: int) -> ndarray:
    """Clouds [n, points, 3] of all that can be read, each once, in the unit sphere; warnings say how many cannot, or
    are there twice."""
    sets = [without_broken(read_folder(folder, MESHES), folder, "meshes") for folder in folders]
    found = np.concatenate([np.empty((0, points, 3), np.float32), *(stacked(each, points)[0] for each in sets)])
    return in_unit_sphere(found[distinct(found)])


def subjects(options: Any, clouds: ndarray, labels: ndarray, more: ndarray) -> list[tuple[Subject, nn.Module | None]]:
    """Who is judged, and its network where it has one."""
    metres = clouds[labels >= 0][:, : options.points].astype(np.float32)
    found: list[tuple[Subject, nn.Module | None]] = [(hand_made("forest"), None)]
    found.append((hand_made("forest, invariant", invariant=True), None))
    if options.metres:
        found.append((hand_made("forest in metres", clouds=metres), None))
    if options.vector:
        vector = settled(VNPointNet(12), clouds, options.points)
        turning = through(lambda xyz: vector.vectors(xyz).mean(-1))
        subject = Subject("VN-PointNet, settled", through(vector.invariants), baseline=True, vectors=turning)
        found.append((subject, vector))
    some = settled(network(options), clouds, options.points)
    for name, encoder, symmetry in (
        ("untrained", network(options).eval(), "none"),
        ("settled", some, "none"),
        ("settled, frames", some, "frames"),
    ):
        found.append((encoder_subject(name, encoder, symmetry, baseline=True), encoder))
    for path, name in [*learned(options, clouds, labels, more), *((path, path.stem) for path in options.encoder)]:
        encoder, about = load_encoder(path)
        found.append((encoder_subject(name, encoder, about["symmetry"], vectors=load_vectors(path)), encoder))
    return found


def learned(options: Any, clouds: ndarray, labels: ndarray, more: ndarray) -> list[tuple[Path, str]]:
    """Where the encoders are, and their names in the table; those that are missing are made."""
    found = []
    every = np.concatenate([clouds, more.astype(clouds.dtype)])
    of = np.concatenate([labels, np.full(len(more), -1)])
    data = f" {len(every)} clouds" if len(more) else ""
    for asked in options.learn:
        objective, _, symmetry = asked.partition(":")
        symmetry = symmetry or "none"
        extra = "" if symmetry == "none" else f" {symmetry}"
        for seed in options.seeds:
            how = f"{objective}{extra} {options.rotate}{data} {options.epochs:g} epochs"
            path = options.out / f"{how}-{seed}.safetensors"
            if not path.exists() and not options.no_learning:
                look = Views(rotate=options.rotate, symmetry=symmetry, **VIEWS.get(objective, {}))
                learn(every, of, request(options, path, objective, look, seed))
            if path.exists():
                name = f"{objective}{extra}{data and ','}{data}"
                found.append((path, name + (f", seed {seed}" if len(options.seeds) > 1 else "")))
    return found


def request(options: Any, path: Path, objective: str, look: Views, seed: int) -> Request:
    encoder = {"patches": options.patches, "neighbours": options.neighbours}
    how = {"objective": objective, "look": look, "points": options.points, "encoder": encoder, "every": 5}
    return Request(path, recipe(options.epochs, seed=seed), **how)


def learn(clouds: ndarray, labels: ndarray, asked: Request) -> None:
    said = set[str]()

    def told(text: str, share: float) -> None:
        epoch = text.split(",")[1]
        if "probe" in text and int(epoch.split()[1]) % asked.every == 0 and epoch not in said:
            said.add(epoch)
            print(f"{asked.out.stem}: {text}", file=sys.stderr, flush=True)

    pretrain(clouds, asked, Labelled(clouds, labels, asked.points), told)


@torch.no_grad()
def settled(model: Network, clouds: ndarray, points: int) -> Network:
    """With statistics of all clouds in its batch norms, all else random."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # the mean over all batches
    model.train()
    for some, _ in Clouds(clouds, points).epoch(0, 32):
        model(torch.from_numpy(some))
    return model.eval()


class Kept:
    """Scores on one exam, in a file as they come. `made`: what encoders of one name may differ in."""

    def __init__(self, path: Path, of: Exam, protocols: tuple[str, ...], made: str):
        self.path, self.of, self.protocols = path, of, protocols
        self.key = f"{of.clouds.shape[1]} points, {len(of.splits)} splits, {made}"
        self.known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def judged(self, subject: Subject, encoder: nn.Module | None) -> Judged:
        def scores(protocol: str) -> dict[str, Scores]:
            return judge(subject, self.of, (protocol,))

        found: dict[str, Scores] = {}
        for protocol in self.protocols:
            if protocol != COST:
                found |= self._scores(f"{subject.name}: {protocol}", lambda of=protocol: scores(of))
        done = Judged(subject.name, found, baseline=subject.baseline)
        if encoder is None or COST not in self.protocols:
            return done
        return replace(done, cost=network_cost(encoder, torch.from_numpy(self.of.clouds[:1]).float()))

    def scratch(self, options: Any, symmetry: str) -> Judged:
        """The same network on the labelled part of each split, turned about the vertical as it learns."""
        of = self.of
        splits = of.splits[: options.scratch_splits * (len(of.splits) // of.seeds)]

        def scores() -> dict[str, Scores]:
            def made(seed: int) -> nn.Module:
                return Posed(network(options, seed, int(of.labels.max()) + 1), symmetry)

            how = replace(RECIPE, epochs=options.scratch)
            found = fine_tune_scores(made, of.clouds, of.labels, splits, how, up=of.up)
            names = {AS_GIVEN: LINEAR, "z": UPRIGHT, "SO3": ANYHOW}
            if symmetry != "none":  # which learns from one turn what it would from any other
                found["any"], names["any"] = found["SO3"], ANY_POSE
            return {
                names[each]: Scores(tuple(values.tolist()), options.scratch_splits, of.ratio)
                for each, values in found.items()
            }

        extra = "" if symmetry == "none" else f", {symmetry}"
        name = f"scratch{extra}: {options.scratch} epochs, {len(splits)} splits"
        return Judged(f"scratch{extra}", self._scores(name, scores), baseline=True)

    def _scores(self, name: str, measure: Callable[[], dict[str, Scores]]) -> dict[str, Scores]:
        key = f"{name}, {self.key}"
        if key not in self.known:
            start = time.process_time()
            self.known[key] = {label: asdict(scores) for label, scores in measure().items()}
            self.path.write_text(json.dumps(self.known, indent=1))
            print(f"{key}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
        told = self.known[key].items()
        return {label: Scores(**scores | {"values": tuple(scores["values"])}) for label, scores in told}


def matrix(table: Evaluation) -> str:
    """The same numbers in Markdown, a row a subject, for documents."""
    cells = {(row.name, row.protocol): f"{row.mean:.1f} ({row.low:.1f} to {row.high:.1f})" for row in table.rows}
    lines = [["", *table.protocols], ["---"] * (1 + len(table.protocols))]
    for name in dict.fromkeys(row.name for row in table.rows):
        lines.append([name, *(cells.get((name, protocol), "") for protocol in table.protocols)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def told(options: Any, clouds: int, more: int) -> str:
    data = f"{clouds} clouds" if not more else f"{clouds + more} clouds, {more} of them points on meshes"
    return (
        f"all encoders: point_vit, {options.patches} patches of {options.neighbours}, {options.epochs:g} epochs of "
        f"{data}, batch 32, AdamW at 1e-3, turned: {options.rotate}"
    )


def notes(options: Any) -> tuple[str, ...]:
    found = ["Settled: untrained, with the statistics of its batch norms taken from the data."]
    if options.scratch:
        how = f"{options.scratch} epochs, {options.scratch_splits} x 5 folds"
        found.append(
            f"Scratch: the same network trained on the labelled part of each split, {how}; its mean is of those."
        )
    return tuple(found)


def pictures(options: Any, of: Exam) -> dict[str, Any]:
    """Three objects as the first encoder sees them, or as an untrained one does."""
    there = [*sorted(options.out.glob("*.safetensors")), *options.encoder]
    encoder, about = load_encoder(there[0]) if there else (network(options).eval(), {"symmetry": "none"})
    drawn = feature_pictures(encoder, of.clouds[[4, 60, 150]], about["symmetry"])
    name = there[0].stem if there else "untrained"
    return {f"{caption}, {name}": picture for caption, picture in drawn.items()}


if __name__ == "__main__":
    sys.exit(main())
