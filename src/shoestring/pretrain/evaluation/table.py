"""The table a run ends with: the encoder, the same one untrained and hand-made features, under the protocols asked."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from numpy import ndarray

from shoestring.core.evaluation import Cost, Evaluation
from shoestring.measure.machine import processor
from shoestring.pretrain.clouds import in_unit_sphere
from shoestring.pretrain.evaluation.cost import network_cost
from shoestring.pretrain.evaluation.judge import (
    ANY_POSE,
    COST,
    LINEAR,
    QUICK,
    TUNED,
    UPRIGHT,
    Exam,
    Judged,
    exam,
    judge,
    point_exam,
    require_protocols,
    rows,
)
from shoestring.pretrain.evaluation.segmentation import PART, SCENE, PointLabels
from shoestring.pretrain.evaluation.subjects import encoder_subject, hand_made
from shoestring.pretrain.learn import Pretrained, Request, built
from shoestring.pretrain.live import Labelled

UNTRAINED, FOREST, INVARIANT = "untrained", "forest", "forest, invariant"
NOTES = (
    "C, k: chosen inside the training split. No voting, no best of several runs; encoders saw the tested clouds, "
    "without their labels.",
    "Forest: hand-made shape features in a random forest. Over, minus: paired differences on the same splits, points.",
    "Intervals: Nadeau and Bengio (2003) for folds, whose training sets overlap; Student's t for episodes.",
)
COST_NOTE = "Milliseconds: CPU time of the network in torch, one cloud; peak MB: interpreter and torch in it."
POINT_NOTE = (
    "mIoU: of the points shown; a linear head on frozen features of points, of encoders interpolated from the nearest "
    "three tokens, the forest's made by hand. Part: mean over shapes, category: over categories of such means, scene: "
    "over classes. Parts are chosen among those of the category, which is known."
)

Report = Callable[[str, float], object]


def require_exam(labelled: Labelled, protocols: Sequence[str], up: str = "y") -> Exam:
    """What `labelled` clouds can be asked. Raises BadInput for what would only be found after hours of learning."""
    require_protocols(protocols, labelled.labels)
    return exam(labelled.clouds, labelled.labels, up=up)


def require_point_exam(
    clouds: ndarray, points: PointLabels, groups: ndarray, protocols: Sequence[str], up: str = "y"
) -> Exam:
    """The same of `clouds` float [n, N, 3] with classes of their points; those of one of `groups` int [n] are never
    parted. Raises BadInput."""
    require_protocols(protocols, points.categories, points=True)
    return point_exam(in_unit_sphere(clouds), points, groups, up=up)


def learned_table(
    done: Pretrained, request: Request, of: Exam, protocols: Sequence[str] = QUICK, report: Report | None = None
) -> Evaluation:
    """`done`: what learned as `request` says. The untrained encoder is the one that run began with."""
    name, symmetry = done.path.stem, request.look.symmetry
    before = built(request).eval()
    subjects = [
        encoder_subject(UNTRAINED, before.encoder, symmetry, True, before.vectors),
        hand_made(FOREST, up=of.up),
        encoder_subject(name, done.encoder, symmetry, vectors=done.vectors),
    ]
    if "rotation" in protocols:
        subjects.insert(2, hand_made(INVARIANT, invariant=True))
    found = []
    for index, subject in enumerate(subjects):
        if report:
            report(f"judging, {subject.name}", index / len(subjects))
        found.append(Judged(subject.name, judge(subject, of, protocols), baseline=subject.baseline))
    if COST in protocols:
        cost = network_cost(done.encoder, torch.from_numpy(of.clouds[:1]).float())
        found[-1] = replace(found[-1], cost=cost)
    if report:
        report("judging", 1.0)
    against: dict[str, Sequence[str]] = dict.fromkeys((LINEAR, UPRIGHT, PART, SCENE), (UNTRAINED, FOREST))
    against |= {ANY_POSE: (UNTRAINED, INVARIANT), TUNED: (UNTRAINED,)}
    return evaluation(f"{name}: what it is worth", found, of, against)


def evaluation(
    title: str,
    judged: Sequence[Judged],
    of: Exam,
    against: Mapping[str, Sequence[str]] | None = None,
    told: str = "",
    notes: Sequence[str] = (),
) -> Evaluation:
    """The table of what was judged on one exam. `against`: whom differences are taken with, as `rows` has it. `told`:
    of the data or the settings, beside its size and splits."""
    folds, grouped = len(of.splits) // of.seeds, len(set(of.labels.tolist())) == 1
    data = f"{_told(of)}, {of.clouds.shape[1]:,} points in the unit sphere; "
    data += f"{folds} {'folds' if grouped else 'stratified folds'} x {of.seeds} seeds"
    device: Mapping[str, object] = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    priced = (COST_NOTE,) if any(each.cost != Cost() for each in judged) else ()
    pointwise = (POINT_NOTE,) if any({PART, SCENE} & set(each.scores) for each in judged) else ()
    found = rows(judged, against)
    return Evaluation(
        title, "accuracy", f"{data}; {told}" if told else data, found, device, (*notes, *NOTES, *pointwise, *priced)
    )


def _told(of: Exam) -> str:
    """Of the data: how many clouds, and of what classes."""
    if of.points is None:
        return f"{len(of.labels)} labelled clouds, {len(set(of.labels.tolist()))} classes"
    if of.points.categories is None:
        return f"{len(of.labels)} clouds of scenes, {of.points.classes} classes of points"
    parts = sum(map(len, of.points.parts.values()))
    return f"{len(of.labels)} shapes of {len(of.points.parts)} categories, {parts} parts"
