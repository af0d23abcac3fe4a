"""Rules chosen on one set of inputs and applied to another; the answers are made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.pipeline.chain import Chain
from shoestring.pipeline.leaving import left, rules, told
from shoestring.pipeline.samples import Samples

MS = (1.0, 2.0, 4.0)


class Made(Chain):
    """Gives answers [stages, n, classes] that are the inputs themselves."""

    def answers(self, inputs: object) -> np.ndarray:
        return np.concatenate([np.asarray(x) for x in inputs], axis=1)  # type: ignore[attr-defined]


@pytest.fixture
def chain() -> Chain:
    return Made(ModelProto(), (), ModelProto(), "onnxruntime", 1, MS, 3.5)


def drawn(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Answers of two exits and of the whole for n inputs, each with its own clarity, which all stages see with noise;
    and the right classes, which the whole network finds."""
    rng = np.random.default_rng(seed)
    targets, clarity = rng.integers(0, 3, n), rng.uniform(0, 8, n)
    found = [clarity[:, None] * np.eye(3)[targets] + rng.normal(0, noise, (n, 3)) for noise in (2.0, 1.0)]
    found.append(10 * np.eye(3)[targets])
    stages = np.stack(found)
    return [stages[:, index : index + 1] for index in range(n)], targets


def scores(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (outputs.argmax(1) == targets).astype(float)


@pytest.fixture
def samples() -> Samples:
    inputs, targets = drawn(2000, 0)
    held = Samples([], inputs, targets, scores, "top-1")
    judged, right = drawn(2000, 1)
    return Samples(inputs[:20], judged, right, scores, "top-1", held=held)


@pytest.mark.parametrize("most", [0.5, 5.0])
def test_inputs_leave_as_early_as_the_points_allow(chain: Chain, samples: Samples, most: float) -> None:
    found = rules(chain, samples, most)
    assert (found.n, found.labelled, found.held) == (2000, True, True)
    assert 0 < found.lost <= most
    gone = left(chain, chain.answers(samples.judgement), found, samples)
    assert gone.shares == pytest.approx(found.shares, abs=0.05)
    assert gone.ms == pytest.approx(found.ms, abs=0.1)
    assert gone.ms == pytest.approx(sum(share * ms for share, ms in zip(gone.shares, MS, strict=True)))
    assert gone.ms < 0.75 * MS[-1]
    assert gone.quality.original == 100.0
    assert -most - 1 < gone.quality.difference < 0


def test_clear_inputs_leave_first(chain: Chain, samples: Samples) -> None:
    found = rules(chain, samples, 1.0)
    answers = chain.answers(samples.judgement)
    margins = np.sort(answers[1], axis=1)
    clear = margins[:, -1] - margins[:, -2] > 4
    by_half = [left(chain, answers[:, part], found, replace(samples, targets=None)) for part in (clear, ~clear)]
    assert by_half[0].shares[-1] < 0.1 < 0.3 < by_half[1].shares[-1]


def test_without_labels_agreement_counts_and_without_held_inputs_those_that_calibrate(chain, samples) -> None:
    assert samples.held is not None
    found = rules(chain, replace(samples, held=replace(samples.held, targets=None)), 1.0)
    assert (found.labelled, found.held, found.n) == (False, True, 2000)
    assert found.shares == rules(chain, samples, 1.0).shares  # the whole network is right here
    few = rules(chain, replace(samples, held=None), 1.0)
    assert (few.labelled, few.held, few.n) == (False, False, 20)


def test_exits_that_do_not_pay_are_never_final(chain: Chain, samples: Samples) -> None:
    slow = replace(chain, ms=(5.0, 6.0, 4.0))
    found = rules(slow, samples, 1.0)
    assert found.confidence == ({}, {})
    gone = left(slow, slow.answers(samples.judgement), found, samples)
    assert (gone.shares, gone.ms, gone.quality.difference) == ((0.0, 0.0, 1.0), 4.0, 0.0)
    assert "nothing leaves early" in " ".join(told(found, gone, ["a", "b"], 3.5))


def test_what_a_reader_is_told(chain: Chain, samples: Samples) -> None:
    found = rules(chain, samples, 1.0)
    gone = left(chain, chain.answers(samples.judgement), found, samples)
    first, second = told(found, gone, ["stem", "body"], 3.5)
    assert "2000 held inputs with labels" in first
    assert f"{100 * gone.shares[0]:.0f} % leave at stem, {100 * gone.shares[1]:.0f} % leave at body" in second
    assert f"{gone.ms / 3.5:.2f}x of the 3.5 ms without exits; top-1" in second
    assert told(found, None, ["stem", "body"], 3.5) == (first,)
    few = rules(chain, replace(samples, held=None), 1.0)
    assert "20 calibration inputs, " in told(few, None, ["stem", "body"], 3.5)[0]
    assert "surer of them than of others" in told(few, None, ["stem", "body"], 3.5)[0]
