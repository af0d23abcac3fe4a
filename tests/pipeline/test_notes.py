"""Sentences of a receipt, from figures made by hand. `how` and `what` are read in whole fits."""

from onnx import ModelProto

from shoestring.core.receipt import HOLDS, Baseline, Receipt, Speedup, Subject
from shoestring.pipeline.notes import without_training, worse
from shoestring.pipeline.reconstruct import Reconstructed


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
