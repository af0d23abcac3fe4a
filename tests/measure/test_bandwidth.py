"""Bandwidth: real bytes over real time, with a clock that is known."""

import numpy as np
import pytest

from shoestring.measure import bandwidth as module
from shoestring.measure.bandwidth import RANGE, bandwidth


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [0, 2**22, 2**40])
def test_bytes_read_and_written_over_the_time(size: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a second after the last; copies are counted instead of made."""
    moved, ticks = [], iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(module.np, "copyto", lambda to, source: moved.append(to.nbytes + source.nbytes))
    if size > RANGE[1]:
        monkeypatch.setattr(module, "RANGE", (2**20, 2**23))
    assert bandwidth(size, threads) == pytest.approx(sum(moved) / module._TRIES / 1e9)
    expected = min(max(size, module.RANGE[0]), module.RANGE[1])
    assert set(moved) == {expected // threads}
    assert sum(moved) / module._TRIES >= 2**26 * 0.99  # long enough for the clock


def test_this_machine_moves_bytes() -> None:
    assert 0.1 < bandwidth(2**20) < 10_000


def test_the_best_try_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(np.cumsum([0.0, 5.0, *[0.0, 2.0] * 9]))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(times)))
    monkeypatch.setattr(module.np, "copyto", lambda to, source: None)
    assert bandwidth(2**26) == pytest.approx(2**26 / 2.0 / 1e9)
