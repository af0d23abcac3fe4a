"""Sentences of a receipt, from figures made by hand. `how` and `what` are read in whole fits."""

from shoestring.core.receipt import HOLDS, Baseline, Receipt, Speedup, Subject
from shoestring.pipeline.notes import worse


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
