"""Pruning in one shot: exact zeros in what is written, on every path in; what is told of them; nothing removed."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from shoestring.core.budget import Budget
from shoestring.core.device import NO_EFFECT, Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, Layer
from shoestring.core.pattern import BlockPattern
from shoestring.deploy import shoe
from shoestring.deploy.inventory import inventory
from shoestring.deploy.normal_form import violations
from shoestring.deploy.weights import weights
from shoestring.pipeline.asked import asked
from shoestring.pipeline.cases import case_of
from shoestring.pipeline.fit import Fitted, fit
from shoestring.pipeline.notes import zeroed
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.pruning import Pruned, multiplications, prune, pruned_layers, zeros
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples

PROJECTS = ["blocks.0.project.0", "blocks.1.project.0"]  # what is neither first, last nor depthwise
FOUR = BlockPattern(4, 1)


def pruned(original: Original, method: str) -> Pruned:
    step = asked(original, (method,))[0]
    return prune(original, step.method, step.settings(original))


@pytest.fixture
def fitting(timed, original: Original, samples: Samples, tmp_path: Path, monkeypatch) -> Callable[..., Fitted]:
    """`fitting("magnitude:...")`: a fit into `x.shoe` on onnxruntime, with timings made by hand."""
    timed({"fp32": 4.0, "int8": 2.0, "subject": 2.0, "fp32@onnxruntime": 4.0, "int8@onnxruntime": 2.0})
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: 60.0)

    def run(method: str, original: Original = original, **request: Any) -> Fitted:
        given = {"out": tmp_path / "x.shoe", "runtime": "onnxruntime", "methods": (method,), **request}
        done = fit(original, samples, Request(**given))
        assert done is not None
        return done

    return run


@pytest.mark.parametrize("pattern", ["4x1", "1x1", "8x2"])
def test_zeros_are_exact_in_the_file(pattern: str, fitting, original: Original) -> None:
    """Codes are zero in whole blocks, in those that were smallest; the other layers are what 8 bits make of them."""
    done = fitting(f"magnitude:{pattern}@75%:uniform", reconstruct=False)
    artifact = shoe.read(done.path)
    graph = onnx.load_from_string(artifact.onnx())
    assert violations(graph) == []
    before, codes = weights(original.graph), weights(graph)
    for name, weight in before.items():
        blocks = BlockPattern.parse(pattern)
        if name in PROJECTS:
            norms = blocks.norms(weight)
            gone = blocks.expand(norms <= np.quantile(norms, 0.75, method="lower"), weight.shape)
            assert gone.mean() == pytest.approx(0.75, abs=0.01)
            assert not codes[name][gone].any()
            assert np.count_nonzero(codes[name][~gone]) > 0.95 * (~gone).sum()
        else:
            assert np.count_nonzero(codes[name]) > 0.95 * weight.size
    written = f"magnitude:{pattern}@75%:uniform, int8"
    assert artifact.provenance["methods"] == {name: written if name in PROJECTS else "int8" for name in before}
    assert done.parity.first_divergence is None


def test_the_receipt_compares_with_the_dense_original_and_says_what_was_done(fitting, original: Original) -> None:
    done = fitting("magnitude:4x1@75%", budget=Budget.parse("micronet<=9"))
    dense = fitting("int8", budget=Budget.parse("micronet<=9"))
    receipt, notes = done.receipt, " ".join(done.receipt.notes)
    (over_int8,) = (line for line in receipt.speedup if line.against == "int8")
    assert (over_int8.ratio, receipt.quality.original) == (pytest.approx(1.0, rel=0.01), 100.0)
    assert receipt.quality.subject < dense.receipt.quality.subject
    assert receipt.micronet.value < dense.receipt.micronet.value
    share = multiplications(original.layers, dict.fromkeys(PROJECTS, 0.75)) / multiplications(original.layers, {})
    assert over_int8.realisation == pytest.approx(share * over_int8.ratio, rel=0.02)
    found = re.search(r"Pruned in one shot, without training: ([\d.]+) % of the weights of 2 layers are zero", notes)
    assert found is not None
    assert 73 < float(found[1]) <= 75  # shares come in steps of five
    assert "onnxruntime, block zeros: no effect. masked weights run at dense speed" in notes
    assert "No training was done: 6 of" in notes
    assert "Pruned" not in " ".join(dense.receipt.notes)


def test_measured_again_the_file_promises_the_same(fitting, device: Device) -> None:
    done = fitting("magnitude:4x1@75%")
    case = case_of(str(done.path), device)
    graph = onnx.load_from_string(shoe.read(done.path).onnx())
    layers = inventory(case.original)
    assert case.macs == (multiplications(layers, {}), multiplications(layers, zeros(graph, PROJECTS)))
    assert case.macs[1] < case.macs[0]


@pytest.mark.parametrize("name", ["float", "old"])
def test_an_onnx_file_is_pruned_as_its_torch_model(name: str, onnx_files, original: Original) -> None:
    theirs = resolve(str(onnx_files[name]))
    ours, others = (weights(pruned(found, "magnitude:4x1@50%:uniform").original.graph) for found in (original, theirs))
    assert [FOUR.sparsity(weight) for weight in others.values()] == [FOUR.sparsity(weight) for weight in ours.values()]
    assert sorted(FOUR.sparsity(weight) for weight in ours.values()) == [0, 0, 0, 0, 0.5, 0.5]


def test_the_same_as_apply(original: Original) -> None:
    """On the folded graph and on the captured model: the same zeros."""
    step = asked(original, ("magnitude:4x1@60%",))[0]
    assert original.model is not None
    baked = step.method.apply(original.model, step.settings(original)).bake()
    for name, weight in weights(pruned(original, "magnitude:4x1@60%").original.graph).items():
        trained = baked.get_submodule(name).weight.detach().numpy()
        np.testing.assert_array_equal(weight == 0, trained == 0)


def test_the_original_stays_as_it_is(original: Original) -> None:
    before = original.graph.SerializeToString(deterministic=True)
    assert pruned(original, "magnitude:4x1@50%").original.graph != original.graph
    assert original.graph.SerializeToString(deterministic=True) == before


def test_nothing_removed_says_so_and_is_dense_8_bits(fitting) -> None:
    with pytest.warns(NoEffectWarning, match="magnitude removed no weight"):
        done = fitting("magnitude:dense")
    sparse, dense = shoe.read(done.path), shoe.read(fitting("int8").path)
    assert sparse.onnx() == dense.onnx()
    assert sparse.provenance["methods"] == dense.provenance["methods"]
    assert "Pruned" not in " ".join(done.receipt.notes)


def test_blocks_that_do_not_fit(fitting) -> None:
    with pytest.raises(BadInput, match=r"write blocks\.0\.depthwise\.0=1x1@50% or blocks\.0\.depthwise\.0=dense"):
        fitting("magnitude:4x1@80%:blocks.0.depthwise.0=4x1@50%")


def test_multiplications_of_a_second_call() -> None:
    layers = [Layer(name, CONV, "Conv", (), (), (4, 4, 1, 1), macs=100) for name in ("a", "a:2", "b")]
    assert multiplications(layers, {}) == 300
    assert multiplications(layers, {"a": 0.75}) == 150


def test_what_a_runtime_does_with_the_zeros_is_quoted_or_unknown(original: Original, device: Device) -> None:
    found = pruned(original, "magnitude:4x1@50%:blocks.1.*=1x1@50%:*.depthwise.0=dense")
    assert found.features == ("block zeros", "unstructured zeros")
    empty = zeros(found.original.graph, found.settings)
    assert empty == dict.fromkeys(PROJECTS, 0.5)
    first, *said = zeroed(found, empty, device)
    assert first.startswith("Pruned in one shot, without training: 50.0 % of the weights of 2 layers")
    assert [line.split(". ")[0] for line in said] == [f"onnxruntime, {name}: {NO_EFFECT}" for name in found.features]
    _, *said = zeroed(found, empty, replace(device, capabilities=()))
    assert said == [f"onnxruntime, {name}: nobody has measured what it does." for name in found.features]
    assert zeroed(None, {}, device) == ()


@pytest.mark.parametrize("told", [None, 3, "magnitude", ["magnitude"], {"a": 3, "b": None, "c": "magnify:x"}])
def test_provenance_may_be_anything(told: object) -> None:
    assert pruned_layers(told) == []
    assert pruned_layers({"a": "magnitude:4x1@50%:uniform, int8", "b": "int8", "c": "magnitude"}) == ["a", "c"]
