"""Fronts: which budgets there are, what receipts come to side by side, and when there is no use in going on."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput
from shoestring.core.front import FrontPoint
from shoestring.core.proposal import Proposal
from shoestring.core.receipt import HOLDS, Baseline, BudgetLine, Quality, Receipt, Speedup, Subject
from shoestring.deploy.parity import Parity
from shoestring.pipeline import front as module
from shoestring.pipeline.fit import Fitted
from shoestring.pipeline.front import POINTS, budgets, fit_front, front, is_front
from shoestring.pipeline.original import Original
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples

NOTHING, NO_SAMPLES = Original("net", ModelProto(), (), ()), Samples([], [])


def values(text: str, points: int = POINTS) -> list[float]:
    """Of the limit that was a range."""
    name = next(limit.name for limit in Budget.parse(text).limits if limit.upper is not None)
    found = [budget.get(name) for _, budget in budgets(Budget.parse(text), points)]
    assert all(limit is not None and limit.upper is None for limit in found)
    return [limit.value for limit in found if limit is not None]


def test_limits_by_equal_ratios_loosest_first() -> None:
    found = values("latency=0.5ms..8ms")
    assert found == [8, 4, 2, 1, 0.5]
    assert values("size=1MB..4MB", points=3) == [4e6, 2e6, 1e6]
    assert values("latency=0.2x..0.8x", points=2) == [0.8, 0.2]


@given(st.floats(0.01, 10), st.floats(1.5, 100))
def test_ratios_of_neighbours(low: float, wide: float) -> None:
    """Both ends are as they were asked for, what lies between is rounded to three digits."""
    found = values(f"latency={low!r}ms..{low * wide!r}ms")
    assert (found[0], found[-1]) == (low * wide, low)
    ratios = np.array(found[:-1]) / np.array(found[1:])
    np.testing.assert_allclose(ratios, wide ** (1 / 4), rtol=0.02)


def test_points_of_quality_by_equal_steps() -> None:
    """The more may be lost the looser; a point that is gained is stricter than none."""
    assert values("quality=-4pt..0pt") == [-4, -3, -2, -1, 0]
    assert values("quality=-1pt..1pt", points=3) == [-1, 0, 1]


def test_names_and_what_stands_beside_a_range() -> None:
    """Names are those of files; other limits stay."""
    found = budgets(Budget.parse("size<=1MB, latency=0.5ms..2ms"), 3)
    assert [name for name, _ in found] == ["latency2ms", "latency1ms", "latency0.5ms"]
    assert [str(budget) for _, budget in found] == [
        "size<=1MB, latency<=2ms",
        "size<=1MB, latency<=1ms",
        "size<=1MB, latency<=0.5ms",
    ]
    assert [name for name, _ in budgets(Budget.parse("quality=-2pt..-1pt"), 2)] == ["quality-2pt", "quality-1pt"]


@pytest.mark.parametrize(
    ("text", "ranges"), [("latency=1ms..2ms, size=1MB..2MB", 2), ("latency<=1ms", 0), ("", 0)]
)  # fmt: skip
def test_one_range(text: str, ranges: int) -> None:
    assert is_front(Budget.parse(text)) == (ranges > 0)
    with pytest.raises(BadInput, match=f"^--budget: .* has {ranges} ranges; give one"):
        budgets(Budget.parse(text))


def fitted(
    file: str, ms: float, quality: float | None = None, size: int = 1000, proposal: Proposal | None = None
) -> Fitted:
    """The original has a quality of 90 and takes 4 ms."""
    judged = None if quality is None else Quality("top-1", "pt", 90, quality, quality - 90, quality - 91, quality, 50)
    receipt = Receipt(
        device={"processor": "here", "file": file},
        subject=Subject(file, "openvino", ms, size, quality=quality),
        baselines=(Baseline("fp32", "onnxruntime", 4.0, 9000, 90.0), Baseline(file, "onnxruntime", 1.0, 1)),
        speedup=(Speedup("int8", 9.9, 9, 10), Speedup("fp32", 4 / ms, 0.9 * 4 / ms, 1.1 * 4 / ms)),
        quality=judged,
        budget=(BudgetLine("latency", 2.5, ms, "ms", True), BudgetLine("size", 0.5, 0.1, "x", True)),
        verdict=HOLDS,
    )
    return Fitted(Path("folder") / file, receipt, {}, Parity("openvino", (), 0.0), proposal)


def test_side_by_side() -> None:
    """Fastest first, each with the numbers of its receipt."""
    found = front("net", "latency=1ms..2ms", [fitted("b.shoe", 2.0, 89.0), fitted("a.shoe", 1.0, 88.0)], ("told",))
    assert (found.model, found.budget, found.notes) == ("net", "latency=1ms..2ms", ("told",))
    assert (found.metric, found.unit) == ("top-1", "pt")
    assert found.device == {"processor": "here", "file": "b.shoe"}
    assert [line.name for line in found.baselines] == ["fp32", "b.shoe"]
    assert found.points == (
        FrontPoint("a.shoe", "latency 2.5ms, size 0.5x", "openvino", 1.0, 1000, 4.0, HOLDS, 88.0, -2.0, -3.0, 88.0),
        FrontPoint("b.shoe", "latency 2.5ms, size 0.5x", "openvino", 2.0, 1000, 2.0, HOLDS, 89.0, -1.0, -2.0, 89.0),
    )


@pytest.mark.parametrize(
    ("points", "dominated"),
    [
        ([(1, 80), (2, 85), (3, 90)], [False, False, False]),
        ([(1, 85), (2, 80), (3, 90)], [False, True, False]),
        ([(1, 85), (2, 85), (3, 85)], [False, True, True]),
        ([(1, 85), (1, 80)], [False, True]),
        ([(1, 85), (1, 85)], [False, False]),
        ([(1, 90), (2, 80), (3, 70)], [False, True, True]),
    ],
)
def test_what_is_dominated(points: list[tuple[float, float]], dominated: list[bool]) -> None:
    """Another one is no slower and no worse, and better in one of both."""
    found = front("net", "", [fitted(f"{number}.shoe", *point) for number, point in enumerate(points)])
    assert [point.dominated for point in found.points] == dominated


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=6))
def test_what_is_left_rises(points: list[tuple[int, int]]) -> None:
    """Of the points that nothing dominates, the slower ones are better; the fastest and the best are among them."""
    found = front("net", "", [fitted(f"{number}.shoe", *map(float, point)) for number, point in enumerate(points)])
    left = [(point.latency_ms, point.quality) for point in found.points if not point.dominated]
    distinct = sorted(set(left))
    assert [quality for _, quality in distinct] == sorted({quality for _, quality in left})
    assert left[0][0] == min(ms for ms, _ in points)
    assert left[-1][1] == max(quality for _, quality in points)


def test_without_a_quality() -> None:
    """Smaller and faster is better; there is nothing to tell of quality."""
    sizes = [("a.shoe", 1.0, 900), ("b.shoe", 2.0, 1000), ("c.shoe", 3.0, 800)]
    found = front("net", "", [fitted(file, ms, None, size) for file, ms, size in sizes])
    assert (found.metric, found.unit) == ("", "")
    assert [point.dominated for point in found.points] == [False, True, False]
    assert {(point.quality, point.difference, point.low, point.high) for point in found.points} == {(None,) * 4}


def test_without_a_baseline_in_fp32() -> None:
    one = fitted("a.shoe", 1.0, 80.0)
    one = Fitted(one.path, Receipt(**{**vars(one.receipt), "speedup": ()}), {}, one.parity)
    assert math.isnan(front("net", "", [one]).points[0].speedup)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Request]]:
    """`fits(met)`: from now on each fit takes as long as it may, and its plan is met when `met(ms)`. Gets what is
    asked of each."""

    def start(met: Callable[[float], bool | None]) -> list[Request]:
        seen: list[Request] = []

        def fit(original: Original, samples: Samples, request: Request, report: Any) -> Fitted | None:
            seen.append(request)
            report("timing", 0.5)
            limit = request.budget.get("latency")
            assert limit is not None
            held = met(limit.value)
            if held is None:
                return None
            reason = "" if held else "the cheapest plan takes 3ms"
            proposal = Proposal("net", str(request.budget), {}, (), {}, {}, {}, met=held, reason=reason)
            return fitted(request.out.name, limit.value, 80 + limit.value, proposal=proposal)

        monkeypatch.setattr(module, "fit", fit)
        return seen

    return start


def asked(folder: Path) -> Request:
    return Request(out=folder / "x.shoe", budget=Budget.parse("latency=1ms..16ms, size<=1MB"), threads=2)


def test_a_fit_for_each_budget(fits, tmp_path: Path) -> None:
    seen = fits(lambda ms: True)
    stages: list[tuple[str, float]] = []
    found = fit_front(NOTHING, NO_SAMPLES, asked(tmp_path), lambda *told: stages.append(told))
    assert found is not None
    assert found.folder == tmp_path / "x.front"
    assert found.folder.is_dir()
    names = [f"x-latency{ms}ms.shoe" for ms in (16, 8, 4, 2, 1)]
    assert [request.out for request in seen] == [found.folder / name for name in names]
    assert {request.threads for request in seen} == {2}
    assert str(seen[0].budget) == "latency<=16ms, size<=1MB"
    assert [point.file for point in found.front.points] == names[::-1]
    assert found.front.budget == "latency=1ms..16ms, size<=1MB"
    assert found.front.notes == ()
    assert len(found.fitted) == 5
    assert [share for stage, share in stages if stage.startswith("point")] == [0, 0.2, 0.4, 0.6, 0.8]
    assert ("point 5 of 5", 0.8) in stages


@pytest.mark.parametrize(("least", "left"), [(4, "latency<=2ms, size<=1MB, latency<=1ms, size<=1MB"), (1.5, "")])
def test_it_ends_with_the_first_that_cannot_be_met(least: float, left: str, fits, tmp_path: Path) -> None:
    """Which is kept, for it is the closest there is; tighter ones are named."""
    seen = fits(lambda ms: ms > least)
    found = fit_front(NOTHING, NO_SAMPLES, asked(tmp_path))
    assert found is not None
    ends = max(ms for ms in (16, 8, 4, 2, 1) if ms <= least)
    assert len(seen) == len(found.front.points) == [16, 8, 4, 2, 1].index(ends) + 1
    (note,) = found.front.notes
    assert note.startswith(f"latency<={ends}ms, size<=1MB cannot be met: the cheapest plan takes 3ms.")
    assert note.endswith(f" Not tried: {left}." if left else "3ms.")


def test_a_process_that_helps_to_train(fits, tmp_path: Path) -> None:
    seen = fits(lambda ms: None)
    assert fit_front(NOTHING, NO_SAMPLES, asked(tmp_path)) is None
    assert len(seen) == 5  # it helps with each budget


def test_two_ranges_are_refused_before_anything_is_done(fits, tmp_path: Path) -> None:
    seen = fits(lambda ms: True)
    request = Request(out=tmp_path / "x.shoe", budget=Budget.parse("latency=1ms..2ms, size=1MB..2MB"))
    with pytest.raises(BadInput, match="has 2 ranges"):
        fit_front(NOTHING, NO_SAMPLES, request)
    assert seen == []
    assert not (tmp_path / "x.front").exists()
