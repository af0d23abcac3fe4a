"""The staircase as it is measured: by a clock made by hand, and once really."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shoestring.core import cache as cache_module
from shoestring.core.device import Device
from shoestring.core.staircase import MULTIPLES, WIDTHS, Staircase
from shoestring.deploy import runtimes
from shoestring.deploy.normal_form import violations
from shoestring.pipeline import staircase as staircase_module
from shoestring.pipeline.device import here
from shoestring.pipeline.staircase import SIZES, multiple, network

DEVICE = Device("a processor", ("avx2",), 2, 1, "onnxruntime", "1.0")


@pytest.mark.parametrize("kind", SIZES)
def test_the_networks_are_what_is_deployed(kind: str) -> None:
    model = network(kind, 66)
    assert violations(model) == []
    (result,) = runtimes.get("onnxruntime").open(model.SerializeToString())(
        np.ones((1, 128, SIZES[kind], SIZES[kind]), np.float32)
    )
    assert result.shape == (1, 128, SIZES[kind], SIZES[kind])
    assert result.std() > 0


def test_measured_once_by_a_clock_that_counts_channels(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """A runtime whose graphs take the time of a kernel of 8 channels."""
    asked = []

    def interleave(subjects: Mapping[str, Callable[[], object]], schedule: object) -> SimpleNamespace:
        del schedule
        asked.append(list(subjects))
        times = {width: np.full(8, -(-int(width) // 8) * 0.1) for width in subjects}
        return SimpleNamespace(primary=lambda: times)

    monkeypatch.setattr(staircase_module, "interleave", interleave)
    monkeypatch.setattr(staircase_module, "network", lambda kind, width: network(kind, 32))
    told: list[float] = []
    found = staircase_module.staircase(DEVICE, told.append)
    assert asked == [[str(width) for width in WIDTHS]] * len(SIZES)
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert found.multiple == 8
    assert set(found.multiples.values()) == {8}
    assert found.device == DEVICE.fingerprint
    assert staircase_module.staircase(DEVICE) == found
    assert multiple(DEVICE) == 8
    assert len(asked) == len(SIZES)  # the rest came from the cache
    (file,) = (cache / "staircases").glob("*.json")
    file.write_text(json.dumps({"widths": "none"}))
    assert staircase_module.staircase(DEVICE) == found
    assert len(asked) == 2 * len(SIZES)


def test_what_another_process_measured_meanwhile_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It held the lock, and what it measured is there when we get it."""
    theirs = Staircase(DEVICE.fingerprint, WIDTHS, {"3x3": tuple(map(float, WIDTHS))})

    @contextmanager
    def lock(name: str) -> Iterator[None]:
        assert name == cache_module.MEASURING
        stored = staircase_module._stored
        monkeypatch.setattr(staircase_module, "_stored", lambda key: stored(key) or theirs)
        yield

    monkeypatch.setattr(cache_module, "lock", lock)
    monkeypatch.setattr(staircase_module, "_measure", lambda *_: pytest.fail("measured again"))
    assert staircase_module.staircase(DEVICE) == theirs


def test_a_real_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staircase_module, "_SECONDS", 0.2)
    found = staircase_module.staircase(here("onnxruntime"))
    assert set(found.ms) == set(SIZES)
    for times in found.ms.values():
        assert len(times) == len(WIDTHS)
        assert min(times) > 0
        assert times[-1] > times[0]  # three times the channels
    assert found.multiple in MULTIPLES
