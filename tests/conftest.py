"""Settings for every test, and what several rooms test with: a small network, photographs, a fitted file."""

import logging
import os
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# `ci` draws the same examples every time and has no deadline, so that a loaded machine fails nothing;
# HYPOTHESIS_PROFILE=explore looks further with fresh random examples.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

TINY = f"{Path(__file__).with_name('tiny.py')}:tiny"
CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SHOESTRING_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from torch's threads, and on a loaded machine lose a lot. Loads no torch itself."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny() -> str:
    """MODEL for a network of 10 classes that takes --input 3x32x32 (`tests/tiny.py`)."""
    return TINY


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 10 classes with 3 pictures each: a colour and some noise. Only read it."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir()
        for index in range(3):
            colour = rng.integers(0, 256, 3)
            pixels = np.clip(colour + rng.normal(0, 40, (36, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.{('png', 'jpg')[index % 2]}")
    return root


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Any:
    """What `fit` returns for the small network in 8 bits, really measured; `.path` is the file. Only read it."""
    import shoestring  # loads torch, which not every test needs

    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOESTRING_CACHE", str(folder / "cache"))
        shorten_timing(patch)
        return shoestring.fit(
            TINY,
            data=photographs,
            input="3x32x32",
            method=["int8"],
            budget="latency<=50x, size<=1MB",
            calibration=8,
            out=folder / "tiny.shoe",
        )


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The small network as other tools write it: `float` (opset 18, fixed batch), `old` (opset 17, open batch), and
    quantised by onnxruntime: `qdq` and `qoperator` (no float form). Only read them."""
    import torch
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quant_pre_process, quantize_static

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [np.random.default_rng(i).standard_normal((1, 3, 32, 32), np.float32) for i in range(4)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return {"x": self.left.pop()} if self.left else None

    model, x = runpy.run_path(TINY.rpartition(":")[0])["tiny"](), torch.zeros(1, 3, 32, 32)
    folder = tmp_path_factory.mktemp("onnx")
    files = {name: folder / f"{name}.onnx" for name in ("float", "old", "qdq", "qoperator")}
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamo": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's old exporter is deprecated; files made with it are everywhere
        torch.onnx.export(model, (x,), files["float"], opset_version=18, **names)
        axes = {"x": {0: "n"}, "y": {0: "n"}}
        torch.onnx.export(model, (x,), files["old"], opset_version=17, dynamic_axes=axes, **names)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    quant_pre_process(files["old"], folder / "folded.onnx", skip_symbolic_shape=True)
    for name, form in (("qdq", QuantFormat.QDQ), ("qoperator", QuantFormat.QOperator)):
        quantize_static(folder / "folded.onnx", files[name], Noise(), quant_format=form)
    logging.getLogger().setLevel(level)
    return files


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real timing, for no longer than a test may take."""
    shorten_timing(monkeypatch)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, float]], None]:
    """`timed({"subject": 1.0, "fp32@onnxruntime": 2.0})`: from now on these are the milliseconds that are measured (3.0
    for others), with a noise of 0.1 %. Every subject still runs once."""

    def measures(milliseconds: Mapping[str, float]) -> None:
        for file in ("contest", "profile", "stopwatch", "table"):
            monkeypatch.setattr(f"shoestring.pipeline.{file}.interleave", partial(_pretend, milliseconds))

    return measures


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`bench()`: from now on plans are made on a machine where a layer takes 1 ms in fp32, half of it in 8 bits, and
    nothing else takes any time. `bench({"stem.0": 3.0})`: other ms in 8 bits of single layers."""

    def machine(eight: Mapping[str, float] | None = None) -> None:
        monkeypatch.setattr("shoestring.pipeline.menus.latency_table", partial(_table, eight or {}))
        for file in ("plan", "search"):
            monkeypatch.setattr(f"shoestring.pipeline.{file}.against", partial(_against, eight or {}))

    return machine


def shorten_timing(patch: pytest.MonkeyPatch) -> None:
    from shoestring.measure.timing import Schedule

    def short(seconds: float, threads: int = 1) -> Schedule:
        return Schedule(seconds=min(seconds, 0.5), rounds=(8, 100), warm_up=1, threads=threads)

    for file in ("profile", "receipt", "stopwatch", "table"):
        patch.setattr(f"shoestring.pipeline.{file}.Schedule", short)


def _pretend(
    milliseconds: Mapping[str, float], subjects: Mapping[str, Any], schedule: Any, progress: Any = None
) -> Any:
    from shoestring.measure.timing import Timings

    rng = np.random.default_rng(0)
    for subject in subjects.values():
        subject()
    samples = {name: milliseconds.get(name, 3.0) * np.exp(rng.normal(0, 0.001, 64)) for name in subjects}
    return Timings(samples, samples, dict.fromkeys(subjects, 1), schedule.threads)


def _table(eight: Mapping[str, float], variants: Mapping[str, Any], names: Any, device: Any, progress: Any) -> Any:
    from shoestring.deploy.grids import stored
    from shoestring.pipeline.table import LatencyTable

    weighted = stored(variants["int8"])
    layers = {
        n: {"fp32": 1.0, "int8": eight.get(n, 0.5)} if n in weighted else {"fp32": 0.0, "int8": 0.0} for n in names
    }
    totals = {option: sum(times[option] for times in layers.values()) for option in ("fp32", "int8")}
    return LatencyTable(device.fingerprint, totals, layers, {"fp32": 0.0, "int8": 0.0})


def _against(eight: Mapping[str, float], graphs: Mapping[str, Any], original: Any, threads: int) -> Any:
    from shoestring.deploy.grids import stored

    def ms(graph: Any) -> float:
        return sum(1.0 if own.scales is None else eight.get(name, 0.5) for name, own in stored(graph).items())

    return {name: ms(graph) for name, (graph, _) in graphs.items()}, ms(original)


@pytest.fixture
def save() -> Callable[..., Path]:
    """Writes an image of one random colour pattern, making the folders on the way."""

    def write(path: Path, seed: int = 0, size: tuple[int, int] = (12, 8)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write
