"""The picture of a front: quality against milliseconds, with intervals, and the baselines for comparison."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from shoestring.core.front import Front, FrontPoint
from shoestring.core.receipt import Baseline
from shoestring.report.markup import Markup, element
from shoestring.report.plane import DOT, Box, Plane, box, dot, labels
from shoestring.report.svg import line, picture
from shoestring.report.wording import fixed, number, shorten

_CAP = 0.5  # per cent: half the cap of a whisker
_MARK = 5  # pixels: half the side of a baseline's square

Judged = tuple[int, FrontPoint, float]
Known = tuple[Baseline, float]


def judged(front: Front) -> list[Judged]:
    """The points with a quality: their number, from 1, and their quality."""
    numbered = enumerate(front.points, start=1)
    return [(rank, point, point.quality) for rank, point in numbered if point.quality is not None]


def frontier(key: str, front: Front) -> Markup:
    """A numbered dot a point, joined where no other point is better, hollow where one is; a square for the best
    baseline of each precision; the original as a dashed line. `key` is unique in the page; at least one point has a
    quality."""
    points, known, original = judged(front), _known(front), _original(front)
    ends = [end for _, point, quality in points for end in _span(point, quality)]
    plane = Plane(
        [*(point.latency_ms for _, point, _ in points), *(baseline.latency_ms for baseline, _ in known)],
        [*ends, *(quality for _, quality in known), *original],
    )
    title = f"{shorten(front.metric, 24)}, {shorten(front.unit, 8)}"
    shapes = [*plane.grid("ms", title)]
    for value in original:
        shapes += plane.level(value, "the original", "start")
    shapes += [*_joined(plane, points), *_whiskers(plane, points)]
    shapes += [_square(plane, front, *item) for item in known]
    shapes += [_dot(plane, front, *item) for item in points]
    shapes += _names(plane, points, known)
    told = "; ".join(_told(front, *item) for item in points)
    return picture(key, f"{title} against milliseconds", told, plane.height, shapes)


def _known(front: Front) -> list[Known]:
    best = (baseline for baseline in front.baselines if baseline.best)
    return [(baseline, baseline.quality) for baseline in best if baseline.quality is not None]


def _original(front: Front) -> list[float]:
    """The original's quality, where a point tells its difference to it."""
    found = [quality - point.difference for _, point, quality in judged(front) if point.difference is not None]
    return found[:1]


def _span(point: FrontPoint, quality: float) -> tuple[float, float]:
    """The interval of the difference, about the quality; without one the quality twice."""
    if point.difference is None or point.low is None or point.high is None:
        return quality, quality
    return quality + point.low - point.difference, quality + point.high - point.difference


def _joined(plane: Plane, points: Sequence[Judged]) -> Iterator[Markup]:
    places = [plane.at(point.latency_ms, quality) for _, point, quality in points if not point.dominated]
    yield from (line(*start, *end, "roof") for start, end in pairwise(places))


def _whiskers(plane: Plane, points: Sequence[Judged]) -> Iterator[Markup]:
    for _, point, quality in points:
        low, high = _span(point, quality)
        (x, bottom), (_, top) = plane.at(point.latency_ms, low), plane.at(point.latency_ms, high)
        if low < high:
            yield line(x, bottom, x, top, "whisker")
            yield from (line(x - _CAP, y, x + _CAP, y, "whisker") for y in (bottom, top))


def _dot(plane: Plane, front: Front, rank: int, point: FrontPoint, quality: float) -> Markup:
    kind = "hollow" if point.dominated else "point"
    return dot(plane.at(point.latency_ms, quality), _told(front, rank, point, quality), kind)


def _square(plane: Plane, front: Front, baseline: Baseline, quality: float) -> Markup:
    x, y = plane.at(baseline.latency_ms, quality)
    told = f"{shorten(baseline.name, 24)} on {shorten(baseline.runtime, 16)}: {_amounts(front, baseline, quality)}"
    at = {"x": f"{x:.3f}%", "y": f"{y:.1f}", "transform": f"translate({-_MARK} {-_MARK})"}
    return element("rect", element("title", told), **at, width=2 * _MARK, height=2 * _MARK, class_="original")


def _names(plane: Plane, points: Sequence[Judged], known: Sequence[Known]) -> list[Markup]:
    """Numbers beside the dots, then names beside the squares; beside the whiskers, too."""
    places = [plane.at(point.latency_ms, quality) for _, point, quality in points]
    squares = [plane.at(baseline.latency_ms, quality) for baseline, quality in known]
    taken = [*map(box, [*places, *squares]), *(_covered(plane, point, quality) for _, point, quality in points)]
    ranks, taken = labels([str(rank) for rank, *_ in points], places, taken)
    names, _ = labels([shorten(baseline.name, 12) for baseline, _ in known], squares, taken, "quiet")
    return ranks + names


def _covered(plane: Plane, point: FrontPoint, quality: float) -> Box:
    """By a point's whisker."""
    low, high = _span(point, quality)
    (x, bottom), (_, top) = plane.at(point.latency_ms, low), plane.at(point.latency_ms, high)
    return box((x, (bottom + top) / 2), DOT / 2, (bottom - top) / 2)


def _told(front: Front, rank: int, point: FrontPoint, quality: float) -> str:
    return f"point {rank}: {_amounts(front, point, quality)}"


def _amounts(front: Front, of: FrontPoint | Baseline, quality: float) -> str:
    return f"{number(of.latency_ms)} ms, {fixed(quality)} {shorten(front.unit, 8)}"
