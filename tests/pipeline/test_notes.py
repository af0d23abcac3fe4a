"""Sentences of a receipt, from figures made by hand. `how` and `what` are read in whole fits too."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from onnx import ModelProto

from shoestring.core.budget import Budget
from shoestring.core.proposal import Considered, PlannedLayer, Proposal
from shoestring.core.receipt import FAILS, HOLDS, Baseline, BudgetLine, Receipt, Speedup, Subject
from shoestring.deploy.parity import EdgeParity, Parity
from shoestring.pipeline import notes
from shoestring.pipeline.notes import how, rest, what, without_training, worse
from shoestring.pipeline.original import Original
from shoestring.pipeline.planned import Planned
from shoestring.pipeline.post_training import EightBit
from shoestring.pipeline.reconstruct import Reconstructed
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import Settled

EDGES = EdgeParity("stem.0", 0.0, 1, 0.999), EdgeParity("classifier", 0.1, 1, 0.95)
GATED = Parity("onnxruntime", EDGES, 0.01, 0.26)


def receipt(ratio: float, size: int) -> Receipt:
    """The file at `ratio` times the speed of dense 8 bits of 1000 bytes."""
    baselines = (Baseline("fp32", "onnxruntime", 4.0, 4000), Baseline("int8", "onnxruntime", 2.0, 1000))
    speedup = tuple(Speedup(name, ratio, ratio - 0.01, ratio + 0.01) for name in ("fp32", "int8"))
    return Receipt({}, Subject("x.shoe", "onnxruntime", 2.0, size), baselines, speedup, None, (), HOLDS)


def test_a_file_that_is_slower_or_larger_than_dense_8_bits_says_so() -> None:
    assert worse(receipt(1.1, 900)) == ()
    assert worse(receipt(0.98, 1000)) == ()  # within what comes and goes
    slower, larger = worse(receipt(0.8, 1001))
    assert slower == "Slower than the original in dense 8 bits: 0.80x its speed."
    assert larger == "Larger than the original in dense 8 bits: 1001 bytes against 1000."


def test_what_reconstruction_did() -> None:
    """Errors of layers as a geometric mean of what is left: 0.5 and 0.02 of what it was are 0.1."""
    errors = {"a": (4.0, 2.0), "b": (1.0, 0.02)}
    (said,) = without_training(Reconstructed(ModelProto(), errors, 48, (20.04, 3.06)))
    assert said.startswith("Reconstructed without training: 2 layers, one after the other, were fitted")
    assert "on 48 inputs" in said
    assert "0.10x what it was" in said
    assert "is 3.1 pt, without it 20.0 pt" in said
    (left_out,) = without_training(Reconstructed(ModelProto(), errors, 48, (1.0, 1.5), helped=False))
    assert left_out.startswith("Reconstruction was left out")
    assert without_training(None) == without_training(Reconstructed(ModelProto())) == ()


def planned(*told: str, **proposal: Any) -> Planned:
    """Two layers with zeros at two shares, one in fp32; what it loses in all is 0.02."""
    picks = {"a": "magnitude:4x1@50%", "b": "magnitude:4x1@75%", "c": "fp32"}
    layers = tuple(PlannedLayer(name, (Considered(pick, 1.0, 9, 0.01),), pick) for name, pick in picks.items())
    totals = {"latency": 3.0, "size": 27.0, "loss": 0.02}
    made = Proposal("m", "latency<=2ms", {"runtime": "openvino"}, layers, {}, {}, totals)
    return Planned(None, Settled("ground", replace(made, **proposal), (), 3.0), told)


def test_how_it_came_to_be_without_training(network: EightBit, samples: Samples) -> None:
    """Of three layers one stays in fp32 and one has fewer bits."""
    precisions = {name: network.precisions[name] for name in ("stem.0", "classifier")}
    precisions["classifier"] = replace(precisions["classifier"], weights=4)
    left = replace(network, precisions=precisions, tried={"min-max": 1.25, "mse": 0.5}, rule="mse")
    picks = {"stem.0": "int8", "blocks.0.project.0": "fp32", "classifier": "int8"}
    made: Any = SimpleNamespace(
        network=left, learned=None, pruned=None, picks=picks, quantised={"stem.0", "classifier"}
    )
    done, ranges, few = how(samples, made)
    assert done == "No training was done: 2 of 3 layers in 8 bits, calibrated on 8 inputs."
    assert ranges == "Ranges by mse (divergence on held-out inputs: min-max 1.2 pt, mse 0.5 pt)."
    assert few.startswith("Weights of 1 layers (1 at 4 bits) are stored at fewer than 8 bits and executed at 8")
    made.pruned = SimpleNamespace(epochs=2.0)
    assert how(samples, made)[0].startswith("Trained for 2 epochs; then 2 of 3 layers in 8 bits")


def test_what_was_looked_at(original: Original, samples: Samples, labelled: Samples) -> None:
    gate, judged = what(original, samples, None, GATED)
    assert gate.startswith("Parity gate: 2 edges, at least 95.00 % of an edge's codes equal")
    assert gate.endswith("the whole network moves 0.3 pt from it.")
    assert judged == "No labels: judged by divergence from the original on 8 inputs."
    assert what(original, labelled, None, GATED) == (gate,)
    random = what(replace(original, trained=False), samples, None, GATED)
    assert random == (gate, "The weights are random: speed is measured, quality is not.")


def test_what_was_planned(original: Original, labelled: Samples) -> None:
    """Shares of zeros are told together; how it was found, and whether it is what was asked."""
    _, *told = what(original, labelled, planned("Plans that were made: two."), GATED)
    assert told == [
        "Planned on openvino: magnitude:4x1 in 2, fp32 in 1 of 3 layers.",
        "Plans that were made: two.",
    ]
    missed = planned(met=False, reason="on openvino, latency<=2ms cannot be met: the cheapest plan takes 3ms")
    assert what(original, labelled, missed, GATED)[-1] == (
        "No plan meets the budget: on openvino, latency<=2ms cannot be met: the cheapest plan takes 3ms. This is the "
        "closest one."
    )


def quality(asked: float, got: float) -> Receipt:
    """That missed its limit on quality, or did not."""
    line = BudgetLine("quality", asked, got, "pt", got >= asked)
    return replace(receipt(1.0, 1000), budget=(line,), verdict=HOLDS if line.met else FAILS)


def test_the_price_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times what may be lost: a plan of a quarter of the loss would do."""
    asked = []

    def propose(where: object, budget: Budget, loss: float) -> Proposal:
        asked.append((where, budget, loss))
        return planned(totals={"latency": 4.56, "size": 1.0, "loss": loss}, met=loss > 0.001).proposal

    monkeypatch.setattr(notes, "propose", propose)
    assert rest(quality(-1.0, -4.0), planned()) == (
        "The price of the rest: -1 pt can be expected at about latency<=4.56ms on openvino; training (--epochs) may do "
        "it here.",
    )
    assert asked == [("ground", Budget(), 0.005)]
    (nothing,) = rest(quality(-0.1, -4.0), planned())
    assert nothing == "The price of the rest: no plan is expected to lose so little; training may (--epochs)."
    assert rest(quality(-1.0, -0.5), planned()) == rest(quality(-1.0, -4.0), None) == ()
