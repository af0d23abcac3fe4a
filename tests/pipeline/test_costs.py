"""What zeros cost, read off a latency table made by hand; and once for real."""

from collections.abc import Mapping
from typing import Any

import pytest

from shoestring.compress import magnitude
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput
from shoestring.core.pattern import BlockPattern
from shoestring.deploy import runtimes
from shoestring.engine import why_absent
from shoestring.pipeline.costs import LEVELS, Prices, costs
from shoestring.pipeline.original import Original
from shoestring.pipeline.sparsity import DENSE, option
from shoestring.pipeline.table import LatencyTable

FOUR, SQUARE = BlockPattern(4, 1), BlockPattern(4, 4)
PROJECTS = ("blocks.0.project.0", "blocks.1.project.0")


def test_read_off_the_table(original: Original, monkeypatch: pytest.MonkeyPatch) -> None:
    """One table for each pattern; each layer's times by its share of zeros."""
    seen: list[set[str]] = []

    def timed(variants: Mapping[str, Any], layers: list[str], device: Any, **_: Any) -> LatencyTable:
        seen.append(set(variants))
        times = {name: 10.0 - index for index, name in enumerate(variants)}
        return LatencyTable("here", dict.fromkeys(variants, 40.0), dict.fromkeys(layers, times), {})

    monkeypatch.setattr("shoestring.pipeline.costs.latency_table", timed)
    monkeypatch.setattr("shoestring.pipeline.costs.runtimes.installed", lambda: ("engine",))
    monkeypatch.setattr("shoestring.pipeline.costs.here", lambda *_: _Device())
    found = costs(original, {PROJECTS[0]: FOUR, PROJECTS[1]: SQUARE})
    assert seen == [{DENSE, *(option(level, pattern) for level in LEVELS)} for pattern in ("4x1", "4x4")]
    shares = (0.0, *(level / 100 for level in LEVELS))
    assert found.layers == dict.fromkeys(PROJECTS, Cost(shares, tuple(10.0 - i for i in range(len(shares)))))
    assert found.dense_ms == 40.0


class _Device:
    threads = 1


def test_calls_of_one_module_add_up() -> None:
    one, two, flat = (Cost((0.0, 1.0), ms) for ms in ((4.0, 2.0), (1.0, 0.0), (9.0, 9.0)))
    prices = Prices({"a": one, "a:2": two, "b": flat}, 20.0)
    assert prices.paths == {"a": Cost((0.0, 1.0), (5.0, 2.0)), "b": flat}
    assert prices.predict({"a": 0.5, "b": 1.0}) == pytest.approx(20 - 1.5)
    assert prices.predict({}) == 20.0


def test_without_the_engine(original: Original, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoestring.pipeline.costs.runtimes.installed", lambda: ("onnxruntime",))
    with pytest.raises(BadInput, match="zeros are priced by the engine's time, and it is not here"):
        costs(original, {PROJECTS[0]: FOUR})


@pytest.mark.skipif(bool(why_absent()), reason="the engine is not built here")
def test_measured(original: Original, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer that is priced has a cost; there is no more to save than the network takes."""
    monkeypatch.setenv("SHOESTRING_CACHE", str(tmp_path))
    settings = magnitude.assign(original.of_kinds(magnitude.CARD.kinds), magnitude.parse("4x1@50%:milliseconds"))
    found = costs(original, magnitude.priced(settings))
    assert set(found.layers) == set(PROJECTS)
    assert "engine" in runtimes.installed()
    assert sum(cost.ms[0] for cost in found.layers.values()) < found.dense_ms
    assert 0 < found.predict(dict.fromkeys(PROJECTS, 0.9)) <= found.dense_ms
