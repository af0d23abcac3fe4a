"""Fronts: one fit for each of several budgets, loosest first, and what came of them side by side."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shoestring.core.budget import Budget, Limit
from shoestring.core.errors import BadInput
from shoestring.core.front import Front, FrontPoint
from shoestring.core.schema import one_line
from shoestring.pipeline.fit import Fitted, fit, require_possible
from shoestring.pipeline.original import Original
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples

POINTS = 5  # between the ends of a range, both among them


@dataclass(frozen=True)
class FittedFront:
    """What `fit_front` hands back: the files are in `folder`."""

    folder: Path
    front: Front
    fitted: tuple[Fitted, ...]


def is_front(budget: Budget) -> bool:
    return any(limit.upper is not None for limit in budget.limits)


def budgets(budget: Budget, points: int = POINTS) -> list[tuple[str, Budget]]:
    """The budgets of a front, loosest first, each with what its limit is called in a file's name. Limits are spaced by
    equal ratios, points of quality by equal steps. Raises BadInput where more than one limit is a range."""
    ranges = [limit for limit in budget.limits if limit.upper is not None]
    if len(ranges) != 1:
        raise BadInput(f"--budget: {budget} has {len(ranges)} ranges; give one, and plain limits beside it")
    (limit,) = ranges
    found = []
    for value in sorted(_between(limit, points), reverse=limit.op == "<="):
        own = replace(limit, value=value, upper=None)
        others = tuple(own if other is limit else other for other in budget.limits)
        found.append((str(own).replace(own.op, ""), Budget(others)))
    return found


def _between(limit: Limit, points: int) -> Iterator[float]:
    low, high = limit.value, limit.upper
    assert high is not None, "a range"
    for index in range(points):
        share = index / (points - 1)
        value = low + share * (high - low) if limit.name == "quality" else low * (high / low) ** share
        yield float(f"{value:.3g}") if 0 < index < points - 1 else (high if index else low)


def fit_front(
    original: Original, samples: Samples, request: Request, report: Progress | None = None
) -> FittedFront | None:
    """A fit for each budget of a front, into a folder beside `request.out`. It ends with the first budget whose plan
    cannot be met, for those that are tighter cannot either. None in a process that only helped to train. Raises as
    `fit`."""
    report = report or (lambda stage, share: None)
    folder, asked = request.out.with_suffix(".front"), budgets(request.budget)
    require_possible(original, request)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made a folder for the files: {one_line(error)}") from None
    fitted: list[Fitted] = []
    notes: list[str] = []
    for index, (name, budget) in enumerate(asked):
        report(f"point {index + 1} of {len(asked)}", index / len(asked))
        own = replace(request, budget=budget, out=folder / f"{request.out.stem}-{name}.shoe")
        found = fit(original, samples, own, report)
        if found is None:
            continue  # this process only helps to train, the next one too
        fitted.append(found)
        if found.proposal is not None and not found.proposal.met:
            left = ", ".join(str(other) for _, other in asked[index + 1 :])
            notes.append(f"{budget} cannot be met: {found.proposal.reason}." + f" Not tried: {left}." * bool(left))
            break
    if not fitted:
        return None
    return FittedFront(folder, front(original.name, str(request.budget), fitted, tuple(notes)), tuple(fitted))


def front(model: str, budget: str, fitted: Sequence[Fitted], notes: tuple[str, ...] = ()) -> Front:
    """The receipts side by side, fastest first."""
    points = sorted((_point(one) for one in fitted), key=lambda point: point.latency_ms)
    marked = tuple(replace(one, dominated=any(_beats(other, one) for other in points)) for one in points)
    first = fitted[0].receipt
    quality = first.quality
    return Front(
        model=model,
        budget=budget,
        device=first.device,
        points=marked,
        baselines=first.baselines,
        metric=quality.metric if quality else "",
        unit=quality.unit if quality else "",
        notes=notes,
    )


def _point(fitted: Fitted) -> FrontPoint:
    receipt, quality = fitted.receipt, fitted.receipt.quality
    floats = next((line.ratio for line in receipt.speedup if line.against == "fp32"), math.nan)
    return FrontPoint(
        file=fitted.path.name,
        asked=", ".join(f"{line.limit} {line.asked:g}{line.unit}" for line in receipt.budget),
        runtime=receipt.subject.runtime,
        latency_ms=receipt.subject.latency_ms,
        size_bytes=receipt.subject.size_bytes,
        speedup=floats,
        verdict=receipt.verdict,
        quality=quality.subject if quality else None,
        difference=quality.difference if quality else None,
        low=quality.low if quality else None,
        high=quality.high if quality else None,
    )


def _beats(one: FrontPoint, other: FrontPoint) -> bool:
    """No slower and no worse, and better in one of both."""
    if one.quality is None or other.quality is None:
        return one.latency_ms < other.latency_ms and one.size_bytes <= other.size_bytes
    no_worse = one.latency_ms <= other.latency_ms and one.quality >= other.quality
    return no_worse and (one.latency_ms, one.quality) != (other.latency_ms, other.quality)
