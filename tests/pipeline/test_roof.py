"""The roofs: the right probe, the right arithmetic, and a peak that this machine really reaches."""

from types import SimpleNamespace

import onnx
import pytest

from shoestring.deploy import runtimes
from shoestring.deploy.normal_form import is_quantised
from shoestring.pipeline import roof as module
from shoestring.pipeline.roof import CHANNELS, PIXELS, probe, roof


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine; memory moves 12 GB/s a thread; the convolution of any probe takes 0.5 ms, and 0.1 ms go elsewhere."""
    monkeypatch.setattr(runtimes, "installed", lambda: runtimes.STOCK)
    monkeypatch.setattr(module, "bandwidth", lambda size, threads: 12.0 * threads * (size == 1000))
    session = SimpleNamespace(profile=lambda x: {"probe_token_1": 0.3, "probe_nchwc": 0.2, "end": 0.1})
    monkeypatch.setattr(runtimes, "get", lambda name: SimpleNamespace(open=lambda *_, **__: session))


@pytest.mark.parametrize("quantised", [False, True])
def test_multiply_adds_of_the_probe_over_its_time(quantised: bool, here: None) -> None:
    found = roof("openvino", 2, quantised, 1000)
    assert found.gmacs == pytest.approx(256 * 256 * 16 * 16 / 0.5e-3 / 1e9)
    assert found.gigabytes == 24.0
    assert found.how == "a 1x1 convolution of 256 to 256 channels on 16x16 pixels, on openvino"


def test_in_8_bits_the_engine_where_it_is_installed(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda: runtimes.NAMES)
    monkeypatch.setattr(module.engine, "peak", lambda: 90.0, raising=False)
    assert roof("openvino", 2, True, 1000).gmacs == 180.0
    assert roof("openvino", 2, False, 1000).gmacs < 180.0


@pytest.mark.parametrize("quantised", [False, True])
def test_the_probe_is_one_large_convolution(quantised: bool) -> None:
    model = probe(quantised)
    onnx.checker.check_model(model, full_check=True)
    assert is_quantised(model) == quantised
    named = {node.name: node for node in model.graph.node}
    assert named["probe"].op_type == "Conv"
    x = model.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_value for axis in x] == [1, CHANNELS, PIXELS, PIXELS]


@pytest.mark.parametrize("quantised", [False, True])
def test_really_measured(quantised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda: runtimes.STOCK)
    found = roof("onnxruntime", 1, quantised, 2**22)
    assert 0.05 < found.gmacs < 100_000
    assert found.gigabytes > 0.05
