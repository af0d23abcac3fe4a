"""From a contest and outputs to a receipt: quality with its interval, the budget line by line, the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shoestring.core.budget import Budget, Limit
from shoestring.core.quality import agreement, distance
from shoestring.core.receipt import FAILS, HOLDS, NOISY, BudgetLine, Quality
from shoestring.core.statistics import Interval, judge, mean_difference_interval
from shoestring.pipeline.contest import SUBJECT, Contest
from shoestring.pipeline.samples import Samples


@dataclass(frozen=True)
class Weights:
    """What cannot be read off a contest: bytes of the file and of the original, peak memory of each in MB, the file's
    MicroNet score."""

    size: int
    original_size: int
    memory: float | None = None
    original_memory: float | None = None
    micronet: float | None = None


def quality(subject: np.ndarray, original: np.ndarray, samples: Samples) -> Quality:
    """Judged on the same inputs: the task's metric with labels, without them how much of the original's probability
    (or of its output, for other than class scores) was kept. Points are hundredths."""
    kind, moved = distance(subject, original)
    classes = subject.ndim == 2 and subject.shape[1] > 1
    same = float(np.mean(agreement(subject, original))) if classes else None
    if samples.targets is not None and samples.scores is not None:
        ours, theirs = (samples.scores(outputs, samples.targets) for outputs in (subject, original))
        metric = samples.metric
    else:
        ours, theirs = 1 - moved, np.ones_like(moved)
        metric = "probability kept" if kind == "divergence" else "output kept"
    interval = mean_difference_interval(ours, theirs)
    return Quality(
        metric=metric,
        unit="pt",
        original=100 * float(theirs.mean()),
        subject=100 * float(ours.mean()),
        difference=100 * interval.value,
        low=100 * interval.low,
        high=100 * interval.high,
        n=interval.n,
        agreement=same,
        divergence=100 * float(moved.mean()),
    )


def budget_lines(budget: Budget, contest: Contest, weights: Weights, judged: Quality | None) -> tuple[BudgetLine, ...]:
    """What was asked, what was measured, whether it is met (None: too noisy, or not measured here)."""
    return tuple(_line(limit, contest, weights, judged) for limit in budget.limits)


def verdict(lines: Sequence[BudgetLine], noisy: bool) -> str:
    """A limit that is missed fails, whatever the noise of the others; one that was measured and cannot be told makes it
    too noisy. What was not measured (no data to judge quality on) is left open and does not count."""
    if any(line.met is False for line in lines):
        return FAILS
    return NOISY if noisy or any(line.met is None and line.got is not None for line in lines) else HOLDS


def _line(limit: Limit, contest: Contest, weights: Weights, judged: Quality | None) -> BudgetLine:
    interval = _measured(limit, contest, weights, judged)
    if interval is None:
        return BudgetLine(limit.name, limit.value, None, limit.unit, None)
    # More quality samples cannot be had, so the estimate itself decides there.
    tolerance = np.inf if limit.name == "quality" else None
    answers: Mapping[str, bool | None] = {HOLDS: True, FAILS: False, NOISY: None}
    met = answers[judge(interval, limit.op, limit.value, tolerance=tolerance)]
    return BudgetLine(limit.name, limit.value, interval.value, limit.unit, met)


def _measured(limit: Limit, contest: Contest, weights: Weights, judged: Quality | None) -> Interval | None:
    """The measured value in the limit's own unit with its interval."""
    if limit.name == "latency":
        return _latency(limit, contest)
    if limit.name == "quality":
        return None if judged is None else Interval(judged.difference, judged.low, judged.high, judged.n)
    ours, theirs = {
        "size": (weights.size, weights.original_size),
        "memory": (weights.memory, weights.original_memory),
        "micronet": (weights.micronet, None),
    }[limit.name]
    if ours is None or (limit.relative and theirs is None):
        return None
    value = float(ours / theirs) if limit.relative and theirs else float(ours)
    return Interval(value, value, value, 1)


def _latency(limit: Limit, contest: Contest) -> Interval | None:
    if not limit.relative:
        told = contest.timings.measurement(SUBJECT)
        return Interval(told.value, told.low, told.high, told.n)
    best = contest.best("fp32")
    if best is None:
        return None
    faster = contest.ratio(best)
    halves = tuple((1 / high, 1 / low) for low, high in faster.halves)
    return Interval(1 / faster.value, 1 / faster.high, 1 / faster.low, faster.n, halves)
